"""The plain loop: the source's training as its text describes it, to compare our speed with.

    python tests/benchmarks/timings/baseline.py --epochs 3 --device cpu

`nn.Transformer` and a sparse autoencoder that is trained with it; strings padded to 8 tokens and
tokenised by maximal munch whenever they are served; a `DataLoader` with batches of 512, each copied
to the device; `.item()` after every batch; validation after every epoch.
"""

import argparse
import random
import time
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

LENGTH, BATCH, LR, WEIGHT_DECAY = 8, 512, 1e-3, 1.0
MSE_ALPHA, L1_LAMBDA = 1.0, 1e-3
VOCABULARY = {token: i for i, token in enumerate([" ", "B", "E", "C", "+", *map(str, range(199))])}
PAD = VOCABULARY[" "]

warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")


def all_examples() -> list[tuple[str, str]]:
    """Return every prompt with its answer."""
    return both_tasks([(a, b) for a in range(100) for b in range(100)])


def both_tasks(pairs: list[tuple[int, int]]) -> list[tuple[str, str]]:
    """Return the examples of these operands: sums, then concatenations."""
    sums = [(f"B{a}+{b}E", f"B{a + b}E") for a, b in pairs]
    return sums + [(f"B{a}C{b}E", f"B{a}{b}E") for a, b in pairs]


class StringDataset(Dataset[tuple[Tensor, Tensor]]):
    """Examples as strings, tokenised when they are served."""

    def __init__(self, examples: list[tuple[str, str]]):
        self.examples = [tuple(text.ljust(LENGTH) for text in example) for example in examples]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        prompt, answer = self.examples[index]
        return self.tokenize(prompt), self.tokenize(answer)

    def tokenize(self, text: str) -> Tensor:
        """Return the token ids by longest match, padded."""
        ids: list[int] = []
        while text:
            token = next(text[:n] for n in (3, 2, 1) if text[:n] in VOCABULARY)
            ids.append(VOCABULARY[token])
            text = text[len(token) :]
        return torch.tensor(ids + [PAD] * (LENGTH - len(ids)))


class Model(nn.Module):
    """A transformer of one layer each, and the sparse autoencoder on its output."""

    def __init__(self, vocabulary: int, d_model: int = 256, n_heads: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, d_model)
        self.positions = nn.Embedding(LENGTH, d_model)
        self.transformer = nn.Transformer(
            d_model, n_heads, 1, 1, 4 * d_model, dropout=0.0, batch_first=True
        )
        self.sae_encoder = nn.Linear(d_model, 4 * d_model)
        self.sae_decoder = nn.Linear(4 * d_model, d_model)
        self.output = nn.Linear(d_model, vocabulary)

    def forward(self, prompts: Tensor, answers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return logits, the transformer's output, its reconstruction, and the activations."""
        prompt_pads, answer_pads = prompts == PAD, answers == PAD
        causal = nn.Transformer.generate_square_subsequent_mask(
            answers.shape[1], device=answers.device, dtype=torch.bool
        )
        out = self.transformer(
            self.embed(prompts),
            self.embed(answers),
            tgt_mask=causal,
            src_key_padding_mask=prompt_pads,
            tgt_key_padding_mask=answer_pads,
            memory_key_padding_mask=prompt_pads,
        )
        acts = F.relu(self.sae_encoder(out))
        return self.output(out), out, self.sae_decoder(acts), acts

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the embedding of tokens at their positions."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self.embedding(tokens) + self.positions(positions)


def loss_and_hits(model: Model, prompts: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the source's loss, and which answers match exactly."""
    targets = answers[:, 1:]
    logits, out, recon, acts = model(prompts, answers[:, :-1])
    ce = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD)
    loss = ce + MSE_ALPHA * F.mse_loss(recon, out) + L1_LAMBDA * acts.norm(p=1, dim=-1).mean()
    hits = ((logits.argmax(dim=-1) == targets) | (targets == PAD)).all(dim=1)
    return loss, hits


class Training:
    """Data, model and optimiser.

    Args:
        device: device of the model and of every batch.
        seed: seed of the weights, the split and the order of the batches.
    """

    def __init__(self, device: str, seed: int = 0):
        torch.manual_seed(seed)
        examples = all_examples()
        random.Random(seed).shuffle(examples)
        n_train = round(0.3 * len(examples))
        self.device = torch.device(device)
        self.train_loader = DataLoader(
            StringDataset(examples[:n_train]), batch_size=BATCH, shuffle=True
        )
        self.validation_loader = DataLoader(StringDataset(examples[n_train:]), batch_size=BATCH)
        self.model = Model(len(VOCABULARY)).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY
        )
        self.best = float("inf")

    def epoch(self) -> tuple[float, float, float]:
        """Train one epoch; return both losses and the lower of both validation accuracies."""
        self.model.train()
        total = 0.0
        for prompts, answers in self.train_loader:
            loss, _ = loss_and_hits(self.model, prompts.to(self.device), answers.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            total += loss.item()
        validation, accuracy = self.evaluate(self.validation_loader)
        if validation < self.best:
            self.best = validation
            self.weights = {k: v.clone() for k, v in self.model.state_dict().items()}
        return total / len(self.train_loader), validation, accuracy

    def loss_without(self, neuron: int, examples: list[tuple[str, str]]) -> float:
        """Return the mean loss with one neuron removed from the transformer's output."""

        def remove(_module: nn.Module, _args: object, out: Tensor) -> Tensor:
            acts = F.relu(self.model.sae_encoder(out))
            return out - acts[..., neuron, None] * self.model.sae_decoder.weight[:, neuron]

        hook = self.model.transformer.register_forward_hook(remove)
        try:
            return self.evaluate(DataLoader(StringDataset(examples), batch_size=BATCH))[0]
        finally:
            hook.remove()

    @torch.no_grad()
    def evaluate(self, loader: DataLoader[tuple[Tensor, Tensor]]) -> tuple[float, float]:
        """Return the mean loss over the batches, and exact match of the worse task."""
        self.model.eval()
        total, right, counts = 0.0, [0, 0], [0, 0]
        for prompts, answers in loader:
            loss, hits = loss_and_hits(self.model, prompts.to(self.device), answers.to(self.device))
            total += loss.item()
            for task, symbol in enumerate("+C"):
                of_task = (prompts == VOCABULARY[symbol]).any(dim=1)
                right[task] += int(hits.cpu()[of_task].sum())
                counts[task] += int(of_task.sum())
        accuracy = min(r / n for r, n in zip(right, counts, strict=True))
        return total / len(loader), accuracy


def main() -> None:
    """Train, and print one line for each epoch."""
    parser = argparse.ArgumentParser(description="The source's training loop, written plainly.")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    training = Training(args.device, args.seed)
    for number in range(1, args.epochs + 1):
        start = time.perf_counter()
        train, validation, accuracy = training.epoch()
        print(
            f"epoch {number}: loss {train:.4f}, validation {validation:.4f}, both tasks at least "
            f"{100 * accuracy:.1f} % right, {time.perf_counter() - start:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
