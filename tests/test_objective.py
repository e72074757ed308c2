import pytest
import torch

from toytask_cli.dataset import build_grid
from toytask_cli.model import Output, new_model
from toytask_cli.objective import (
    LOSS_TERMS,
    Coefficients,
    LossSums,
    exact_match,
    loss_sums,
    loss_terms,
)
from toytask_cli.recipe import resolve


@pytest.fixture
def recipe(tiny):
    layers = {**vars(tiny), "tasks": ("sum", "concat", "max")}
    return resolve("default", layers)


@pytest.fixture
def batch(recipe):
    return build_grid(recipe).split("validation")


@pytest.fixture
def output(recipe, batch):
    model = new_model(recipe, len(build_grid(recipe).tokenizer))
    with torch.no_grad():
        return model(batch.prompts, batch.answers[:, :-1])


def slow_terms(output, batch, n_tasks, alpha, lambda_, beta):
    """The definition, position by position."""
    ce, mse, l1, l0, n = 0.0, 0.0, 0.0, 0, 0
    acts = [[] for _ in range(n_tasks)]
    for row in range(len(batch)):
        for place in range(batch.answers.shape[1] - 1):
            target = batch.answers[row, place + 1]
            if target == 0:
                continue
            n += 1
            ce -= output.logits[row, place].log_softmax(dim=-1)[target].item()
            mse += (output.recon - output.resid)[row, place].square().mean().item()
            l1 += output.acts[row, place].sum().item()
            l0 += output.acts[row, place].count_nonzero().item()
            acts[batch.tasks[row]].append(output.acts[row, place])
    means = torch.stack([torch.stack(rows).mean(dim=0) for rows in acts])
    overlap = (means.sum(dim=0) - means.max(dim=0).values).sum().item()
    terms = (ce / n, mse / n, l1 / n, l0 / n, overlap)
    loss = terms[0] + alpha * terms[1] + lambda_ * terms[2] + beta * overlap
    return [loss, *terms]


def terms_of(output, batch, coefficients, lambda_=1.0):
    sums = loss_sums(output, batch.answers, batch.tasks, 3)
    return loss_terms(sums, coefficients, lambda l1, l0: lambda_ * l1)


def test_the_loss_is_its_definition(output, batch):
    terms = terms_of(output, batch, Coefficients(0.7, 0.4), lambda_=0.03)
    expected = slow_terms(output, batch, 3, alpha=0.7, lambda_=0.03, beta=0.4)
    assert list(terms) == list(LOSS_TERMS)
    assert [term.item() for term in terms.values()] == pytest.approx(expected, rel=1e-4)


def test_the_sums_of_two_halves_add_up_to_those_of_the_whole(output, batch):
    whole = loss_sums(output, batch.answers, batch.tasks, 3)
    middle = len(batch) // 3
    halves = [
        loss_sums(Output(*(t[rows] for t in output)), batch.answers[rows], batch.tasks[rows], 3)
        for rows in (slice(middle), slice(middle, None))
    ]
    for added, total in zip(halves[0] + halves[1], whole, strict=True):
        torch.testing.assert_close(added, total)


def test_what_stands_at_padding_does_not_count(output, batch):
    changed = Output(*(tensor.clone() for tensor in output))
    padding = batch.answers[:, 1:] == 0
    assert padding.any()
    for tensor in changed:
        tensor[padding] += 100
    before, after = (loss_sums(o, batch.answers, batch.tasks, 3) for o in (output, changed))
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(old, new)


def overlap_gradient(acts: torch.Tensor) -> torch.Tensor:
    """The gradient of the overlap by summed activations [task, neuron], one position a task."""
    acts = acts.clone().requires_grad_()
    zero = torch.zeros(())
    sums = LossSums(ce=zero, mse=zero, l0=zero, acts=acts, positions=torch.ones(len(acts)))
    terms = loss_terms(sums, Coefficients(0.0, 1.0), lambda l1, l0: zero)
    return torch.autograd.grad(terms["overlap"], acts)[0]


def test_the_overlap_moves_activity_between_tasks_and_silences_no_neuron():
    acts = torch.tensor([[3.0, 0.0, 0.0], [1.0, 2.0, 0.0], [0.0, 2.5, 0.0]])
    gradient = overlap_gradient(acts)
    torch.testing.assert_close((gradient * acts).sum(dim=0), torch.zeros(3))  # no change by scaling
    # Neuron 0: a quarter of its activity of 4 is elsewhere. d(4 · (1 − 3/4))/dm, with the 4 fixed.
    torch.testing.assert_close(gradient[:, 0], torch.tensor([-0.25, 0.75, 0.75]))
    assert not gradient[:, 2].any()  # a neuron that never fires


def test_neurons_that_fire_for_one_task_alone_have_no_overlap(output, batch, recipe):
    own = torch.arange(recipe.d_sae) % 3 == batch.tasks[:, None]
    separate = output._replace(acts=output.acts * own[:, None, :])
    terms = terms_of(separate, batch, Coefficients(1.0, 1.0))
    assert terms["overlap"].item() == 0
    assert terms["l1"].item() > 0


def test_an_answer_matches_when_every_real_token_does():
    answers = torch.tensor([[1, 7, 2, 0], [1, 7, 9, 2]])
    logits = torch.zeros(2, 3, 10)
    for row, tokens in enumerate(([7, 2, 5], [7, 9, 4])):
        logits[row, range(3), tokens] = 1
    assert exact_match(logits, answers).tolist() == [True, False]
