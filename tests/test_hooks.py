"""Hooks record and remove what they say, and are gone afterwards."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from toytask_cli.dataset import Grid, build_grid
from toytask_cli.errors import UsageError
from toytask_cli.hooks import HOOK_POINTS, ablate_neurons, cache_activations
from toytask_cli.model import Output, Transformer, new_model
from toytask_cli.recipe import resolve

RECIPE = resolve("default", {"digits": 1, "d_model": 16, "n_heads": 2, "d_ff": 32, "d_sae": 24})
GRID: Grid = build_grid(RECIPE)
EXAMPLES = GRID.split("validation")
DEAD = 5


@pytest.fixture(scope="module")
def model() -> Transformer:
    """A fresh model one of whose neurons never fires."""
    made = new_model(RECIPE, len(GRID.tokenizer))
    with torch.no_grad():
        made.sae.encoder.bias[DEAD] = -1000.0
        made.sae.decoder.bias.normal_(generator=torch.Generator().manual_seed(0))
    return made


@torch.no_grad()
def forward(model: Transformer) -> Output:
    return model(EXAMPLES.prompts, EXAMPLES.answers[:, :-1])


@torch.no_grad()
def test_dropping_the_error_is_reading_an_sae_whose_neurons_are_deleted(model: Transformer) -> None:
    """Without the rows and columns of the removed neurons, and with x̂ in the place of x."""
    removed = torch.tensor([1, 2, 7, 20])
    kept = torch.ones(RECIPE.d_sae, dtype=torch.bool).index_fill_(0, removed, False)
    sae, resid = model.sae, forward(model).resid
    acts = (resid @ sae.encoder.weight[kept].T + sae.encoder.bias[kept]).relu()
    deleted = model.readout(acts @ sae.decoder.weight[:, kept].T + sae.decoder.bias)
    with ablate_neurons(model, removed, "drop"):
        torch.testing.assert_close(forward(model).logits, deleted)


def hooks_of(model: Transformer) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_every_block_is_recorded_as_the_forward_pass_gives_it(model: Transformer) -> None:
    with cache_activations(model) as record:
        out = forward(model)
    assert set(record) == set(HOOK_POINTS)
    assert record["encoder"].shape == (*EXAMPLES.prompts.shape, RECIPE.d_model)
    expected = {"decoder": out.resid, "sae-pre": out.pre_acts, "sae": out.acts, "recon": out.recon}
    for name, tensor in expected.items():
        assert torch.equal(record[name], tensor), name


PRECISIONS = [torch.float32, torch.bfloat16, torch.float64]


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_every_module_returns_one_row_for_every_example_and_position(
    precision: torch.dtype,
) -> None:
    model = new_model(RECIPE, len(GRID.tokenizer)).to(precision)
    shapes: dict[str, tuple[int, ...]] = {}

    def store(name: str) -> Callable[..., None]:
        def hook(module: object, args: object, output: Tensor | tuple[Tensor, ...]) -> None:
            shapes[name] = tuple((output if isinstance(output, Tensor) else output[0]).shape)

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(store(name))
    forward(model)
    n, prompt_length = EXAMPLES.prompts.shape
    answer_length = EXAMPLES.answers.shape[1] - 1
    assert shapes.keys() == dict(model.named_modules()).keys()
    for name, shape in shapes.items():
        reads_prompts = name.startswith(("encoder", "decoder.cross_attention"))
        queries = prompt_length if name.startswith("encoder") else answer_length
        keys = prompt_length if reads_prompts else answer_length
        if name.endswith("softmax"):
            assert shape == (n, RECIPE.n_heads, queries, keys), name
        elif name.endswith(("attention.key", "attention.value")):
            assert shape[:-1] == (n, keys), name
        else:  # the token embedding is called last on the answers
            assert shape[:-1] == (n, queries), name


def test_attention_patterns_are_distributions_that_never_look_ahead(model: Transformer) -> None:
    with cache_activations(model) as cache:
        forward(model)
    for name in ("encoder-attention", "decoder-attention", "cross-attention"):
        pattern = cache[name]
        torch.testing.assert_close(pattern.sum(dim=-1), torch.ones(pattern.shape[:-1]))
    assert not cache["decoder-attention"].triu(1).any()


@pytest.mark.parametrize("manager", [cache_activations, lambda m: ablate_neurons(m, [0, 1])])
def test_no_hook_is_left_after_an_exception(model: Transformer, manager: object) -> None:
    before = forward(model).logits
    with pytest.raises(RuntimeError, match="inside"), manager(model):  # type: ignore[operator]
        assert hooks_of(model) > 0
        raise RuntimeError("inside")
    assert hooks_of(model) == 0
    assert torch.equal(forward(model).logits, before)


def test_no_hook_is_left_when_the_forward_pass_itself_fails(model: Transformer) -> None:
    with pytest.raises(IndexError), cache_activations(model), ablate_neurons(model, [0]):
        model(EXAMPLES.prompts + 10_000, EXAMPLES.answers)
    assert hooks_of(model) == 0


@pytest.mark.parametrize("neuron", range(0, 24, 6))
def test_removing_a_neuron_moves_x_by_exactly_its_activation_times_its_column(
    model: Transformer, neuron: int
) -> None:
    plain = forward(model)
    with ablate_neurons(model, [neuron]):
        moved = forward(model).resid - plain.resid
    column = model.sae.decoder.weight[:, neuron].detach()
    torch.testing.assert_close(moved, -plain.acts[..., [neuron]] * column, atol=1e-6, rtol=0)


def test_a_dead_neuron_moves_nothing(model: Transformer) -> None:
    plain = forward(model)
    assert not plain.acts[..., DEAD].any()
    with ablate_neurons(model, [DEAD]):
        assert torch.equal(forward(model).logits, plain.logits)


def test_removing_no_neuron_changes_nothing(model: Transformer) -> None:
    plain = forward(model).logits
    with ablate_neurons(model, []):
        assert torch.equal(forward(model).logits, plain)


@settings(max_examples=20, deadline=None)
@given(
    order=st.permutations(range(24)), n=st.integers(0, 24), error=st.sampled_from(["keep", "drop"])
)
def test_the_order_of_the_neurons_does_not_matter(
    model: Transformer, order: list[int], n: int, error: str
) -> None:
    with ablate_neurons(model, order[:n], error):
        one_way = forward(model).logits
    with ablate_neurons(model, order[:n][::-1] + order[:n], error):
        other_way = forward(model).logits
    assert torch.equal(one_way, other_way)


def test_dropping_the_error_reads_the_logits_from_the_reconstruction(model: Transformer) -> None:
    plain = forward(model)
    with ablate_neurons(model, [], "drop"):
        torch.testing.assert_close(forward(model).logits, model.readout(plain.recon).detach())


def test_removing_all_neurons_with_the_error_dropped_leaves_the_bias(model: Transformer) -> None:
    with ablate_neurons(model, range(24), "drop"):
        left = forward(model).resid
    bias = model.sae.decoder.bias.detach()
    torch.testing.assert_close(left, bias.expand_as(left), atol=1e-5, rtol=0)


def test_a_replacement_takes_the_place_of_the_activation(model: Transformer) -> None:
    plain = forward(model)
    values = torch.linspace(0, 1, 24)
    with ablate_neurons(model, [3, 7], replacement=values):
        moved = forward(model).resid - plain.resid
    columns: Tensor = model.sae.decoder.weight[:, [3, 7]].detach()
    expected = (values[[3, 7]] - plain.acts[..., [3, 7]]) @ columns.T
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("neuron", [-1, 24, 1000])
def test_a_neuron_out_of_range_is_refused_by_name(model: Transformer, neuron: int) -> None:
    with (
        pytest.raises(UsageError, match=f"no neuron {neuron}: .* 0 to 23"),
        ablate_neurons(model, [neuron]),
    ):
        pass
    assert hooks_of(model) == 0


def test_an_unknown_error_treatment_is_refused_with_a_suggestion(model: Transformer) -> None:
    with pytest.raises(UsageError, match="did you mean 'keep'"), ablate_neurons(model, [0], "kep"):
        pass
