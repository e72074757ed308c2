import pytest
import torch
from torch import nn

from toytask_cli.dataset import build_grid, pad_to
from toytask_cli.model import Attention, empty_model, n_weights, new_model
from toytask_cli.recipe import resolve
from toytask_cli.tokenizer import PAD


@pytest.fixture
def grid(tiny):
    return build_grid(tiny)


@pytest.fixture
def model(tiny, grid):
    model = new_model(tiny, len(grid.tokenizer))
    with torch.no_grad():  # biases and norms other than their initial 0 and 1
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(1))
    return model


def copy_attention(ours: Attention, theirs: nn.MultiheadAttention) -> None:
    projections = [ours.query, ours.key, ours.value]
    theirs.in_proj_weight.data = torch.cat([projection.weight for projection in projections])
    theirs.in_proj_bias.data = torch.cat([projection.bias for projection in projections])
    theirs.out_proj.load_state_dict(ours.out.state_dict())


def pytorch_twin(model, recipe):
    """`nn.Transformer` with our weights: one layer each, post-norm, its own final norms."""
    twin = nn.Transformer(
        recipe.d_model, recipe.n_heads, 1, 1, recipe.d_ff, dropout=0.0, batch_first=True
    )
    encoder, decoder = twin.encoder.layers[0], twin.decoder.layers[0]
    copy_attention(model.encoder.attention, encoder.self_attn)
    copy_attention(model.decoder.attention, decoder.self_attn)
    copy_attention(model.decoder.cross_attention, decoder.multihead_attn)
    norms = {
        encoder.norm1: model.encoder.attention_norm,
        encoder.norm2: model.encoder.feed_forward_norm,
        twin.encoder.norm: model.encoder.norm,
        decoder.norm1: model.decoder.attention_norm,
        decoder.norm2: model.decoder.cross_attention_norm,
        decoder.norm3: model.decoder.feed_forward_norm,
        twin.decoder.norm: model.decoder.norm,
    }
    for theirs, ours in norms.items():
        theirs.load_state_dict(ours.state_dict())
    for layer, ours in ((encoder, model.encoder), (decoder, model.decoder)):
        layer.linear1.load_state_dict(ours.feed_forward[0].state_dict())
        layer.linear2.load_state_dict(ours.feed_forward[2].state_dict())
    return twin


def vectors(model, tokens, positions):
    """[n, length, d_model] what the first layers get."""
    return model.token_embedding(tokens) + positions[: tokens.shape[1]]


def test_the_transformer_computes_what_pytorchs_own_computes(model, tiny, grid):
    examples = grid.split("test")
    answers = examples.answers[:, :-1]
    source = vectors(model, examples.prompts, model.prompt_positions)
    target = vectors(model, answers, model.answer_positions)
    causal = nn.Transformer.generate_square_subsequent_mask(answers.shape[1])
    theirs = pytorch_twin(model, tiny)(source, target, tgt_mask=causal)
    torch.testing.assert_close(model(examples.prompts, answers).resid, theirs)


def test_cutting_the_padding_off_changes_no_number(model, tiny, grid):
    examples = grid.split("test")
    cut = model(examples.prompts, examples.answers[:, :-1]).resid
    prompts, answers = pad_to(examples.prompts, 6), pad_to(examples.answers[:, :-1], 6)
    padded = pytorch_twin(model, tiny)(
        vectors(model, prompts, model.prompt_positions),
        vectors(model, answers, model.answer_positions),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(6),
        src_key_padding_mask=prompts == PAD,
        memory_key_padding_mask=prompts == PAD,
    )
    torch.testing.assert_close(cut, padded[:, : cut.shape[1]])


def test_no_position_sees_the_answer_after_it(model, grid):
    examples = grid.split("test")
    answers = examples.answers[:, :-1].clone()
    before = model(examples.prompts, answers).logits[:, :2]
    answers[:, 2:] = 7
    torch.testing.assert_close(model(examples.prompts, answers).logits[:, :2], before)


def test_the_sae_follows_its_equations_and_the_logits_come_from_x(model, grid):
    examples = grid.split("test")
    out = model(examples.prompts, examples.answers[:, :-1])
    sae = model.sae
    pre_acts = out.resid @ sae.encoder.weight.T + sae.encoder.bias
    torch.testing.assert_close(out.pre_acts, pre_acts)
    torch.testing.assert_close(out.acts, pre_acts.clamp(min=0))
    torch.testing.assert_close(out.recon, out.acts @ sae.decoder.weight.T + sae.decoder.bias)
    torch.testing.assert_close(out.logits, out.resid @ model.readout.weight.T + model.readout.bias)


def test_the_seed_decides_the_weights_and_leaves_the_global_generator_alone(tiny, grid):
    state = torch.get_rng_state()
    one, same = (new_model(tiny, len(grid.tokenizer)).state_dict() for _ in range(2))
    other = new_model(resolve("default", {**vars(tiny), "seed": 1}), len(grid.tokenizer))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["readout.weight"], other.readout.weight)


def test_the_scales_of_the_embeddings_are_the_recipes():
    recipe = resolve("default", {"token_scale": 0.5, "position_scale": 0.05})
    model = new_model(recipe, 204)
    assert model.token_embedding.weight.std().item() == pytest.approx(0.5, rel=0.02)
    assert model.prompt_positions.std().item() == pytest.approx(0.05, rel=0.1)
    assert model.answer_positions.std().item() == pytest.approx(0.05, rel=0.1)


def test_the_default_model_has_the_sources_widths():
    model = empty_model(resolve("default"), 204)
    assert model.sae.encoder.weight.shape == (1024, 256)
    assert model.encoder.feed_forward[0].weight.shape == (1024, 256)
    assert model.decoder.attention.n_heads == 4


@pytest.mark.parametrize(
    "change",
    [{}, {"digits": 3, "d_sae": 7, "d_ff": 5, "d_model": 6}, {"sae": "topk"}, {"sae": "jumprelu"}],
)
def test_the_number_of_weights_is_known_before_they_are_made(change):
    recipe = resolve("default", {"n_heads": 2, **change})
    made = empty_model(recipe, 204).parameters()
    assert n_weights(recipe, 204) == sum(parameter.numel() for parameter in made)
