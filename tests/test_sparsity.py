"""Sparsity numbers are what their definitions say."""

import pytest
import torch
from torch import Tensor

from toytask_cli.analysis.sparsity import (
    DEFINITIONS,
    SparsitySums,
    explained_variance,
    measure_sparsity,
    neurons_by_tasks,
    numbers,
    sparsity_sums,
)
from toytask_cli.dataset import Examples, build_grid, pad_to
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.model import Transformer, new_model
from toytask_cli.objective import Coefficients, loss_sums, loss_terms
from toytask_cli.recipe import resolve
from toytask_cli.tokenizer import PAD

RECIPE = resolve(
    "default",
    {"tasks": ("sum", "concat", "max"), "digits": 1, "d_model": 16, "n_heads": 2, "d_ff": 32}
    | {"d_sae": 24},
)
GRID = build_grid(RECIPE)
NAMES = [task.name for task in GRID.tasks]


@pytest.fixture
def model() -> Transformer:
    return new_model(RECIPE, len(GRID.tokenizer))


def real_positions(model: Transformer, examples: Examples) -> dict[str, Tensor]:
    """The plain way: one pass, then select."""
    with torch.no_grad():
        out = model(examples.prompts, examples.answers[:, :-1])
    real = examples.answers[:, 1:] != PAD
    return {name: tensor[real].double() for name, tensor in out._asdict().items()}


def test_the_numbers_equal_a_plain_computation_over_the_whole_part(model: Transformer) -> None:
    report, _ = measure_sparsity(model, GRID, "test", batch_size=7)
    at = real_positions(model, GRID.split("test"))
    fires = at["acts"] > 0
    assert report.all.n == len(fires)
    assert report.all.n_examples == len(GRID.split("test"))
    assert report.all.l0 == pytest.approx(float(fires.sum(1).double().mean()))
    assert report.all.l1 == pytest.approx(float(at["acts"].sum(1).mean()), rel=1e-5)
    assert report.all.fraction_nonzero == pytest.approx(float(fires.double().mean()))
    assert report.all.fraction_nonzero_pre == pytest.approx(1.0)
    assert report.all.dead_neurons == int((~fires.any(0)).sum())
    assert report.all.mse == pytest.approx(float((at["recon"] - at["resid"]).square().mean()))
    spread = at["resid"] - at["resid"].mean(0)
    expected = 1 - (at["recon"] - at["resid"]).square().sum() / spread.square().sum()
    assert report.all.explained_variance == pytest.approx(float(expected), rel=1e-5)


def test_cross_entropy_and_l1_agree_with_the_objective(model: Transformer) -> None:
    examples = GRID.split("test")
    with torch.no_grad():
        out = model(examples.prompts, examples.answers[:, :-1])
        sums = loss_sums(out, examples.answers, examples.tasks, 3)
        terms = loss_terms(sums, Coefficients(1.0, 0.0), model.sae.sparsity_penalty)
    report, _ = measure_sparsity(model, GRID, "test")
    assert report.all.ce_loss == pytest.approx(float(terms["ce"]), rel=1e-5)
    assert report.all.l1 == pytest.approx(float(terms["l1"]), rel=1e-5)
    assert report.all.mse == pytest.approx(float(terms["mse"]), rel=1e-5)


def test_a_perfect_reconstruction_costs_nothing_and_explains_everything(model: Transformer) -> None:
    sae = model.sae
    with torch.no_grad():  # x = ReLU(x) − ReLU(−x), with 16 neurons for each sign
        sae.encoder = torch.nn.Linear(16, 32)
        sae.decoder = torch.nn.Linear(32, 16)
        both = torch.cat([torch.eye(16), -torch.eye(16)])
        sae.encoder.weight.copy_(both)
        sae.decoder.weight.copy_(both.T)
        sae.encoder.bias.zero_()
        sae.decoder.bias.zero_()
    report, _ = measure_sparsity(model, GRID, "test")
    assert report.all.explained_variance == pytest.approx(1.0, abs=1e-6)
    assert report.all.ce_loss_with_sae == pytest.approx(report.all.ce_loss, abs=1e-6)
    assert report.all.l0 == pytest.approx(16.0)


def test_predicting_the_mean_explains_nothing_and_every_neuron_is_dead(model: Transformer) -> None:
    mean = real_positions(model, GRID.split("test"))["resid"].mean(0)
    with torch.no_grad():
        model.sae.encoder.bias.fill_(-1000.0)
        model.sae.decoder.bias.copy_(mean)
    report, _ = measure_sparsity(model, GRID, "test")
    assert report.all.explained_variance == pytest.approx(0.0, abs=1e-5)
    assert report.all.dead_neurons == RECIPE.d_sae
    assert report.neurons_by_tasks[0].none == RECIPE.d_sae
    assert report.all.l0 == report.all.fraction_nonzero == 0.0
    assert report.all.density_floor == 1 / report.all.n


def test_batching_changes_nothing(model: Transformer) -> None:
    whole, tensors = measure_sparsity(model, GRID, "test", batch_size=10_000)
    for batch_size in (5, 64):
        report, batched = measure_sparsity(model, GRID, "test", batch_size)
        for one, other in zip(batched, tensors, strict=True):
            torch.testing.assert_close(one.double(), other.double(), rtol=1e-5, atol=1e-6)
        assert vars(report.all) == pytest.approx(vars(whole.all), rel=1e-5)
        assert report.neurons_by_tasks == whole.neurons_by_tasks


def test_padding_changes_nothing(model: Transformer) -> None:
    examples = GRID.split("test")
    wide = pad_to(examples.answers, examples.answers.shape[1] + 2)
    padded = Examples(examples.prompts, wide, examples.tasks, examples.pairs)
    short, long = (numbers(sparsity_sums(model, some)) for some in (examples, padded))
    assert vars(short) == pytest.approx(vars(long), rel=1e-5)


def test_all_is_the_sum_of_the_tasks(model: Transformer) -> None:
    report, _ = measure_sparsity(model, GRID, "test")
    assert list(report.tasks) == NAMES
    assert report.all.n == sum(t.n for t in report.tasks.values())
    weighted = sum(t.n * t.l0 for t in report.tasks.values()) / report.all.n
    assert report.all.l0 == pytest.approx(weighted)


def test_density_adds_up_to_l0(model: Transformer) -> None:
    report, tensors = measure_sparsity(model, GRID, "test")
    for i, name in enumerate(NAMES):
        assert float(tensors.density[i].sum()) == pytest.approx(report.tasks[name].l0)
        assert float(tensors.mean_acts[i].sum()) == pytest.approx(report.tasks[name].l1)


def test_the_relu_moves_the_histogram_s_negative_half_to_zero(model: Transformer) -> None:
    report, tensors = measure_sparsity(model, GRID, "test")
    assert len(tensors.edges) == len(tensors.histogram) + 1
    for counts in (tensors.histogram, tensors.histogram_pre):
        assert int(counts.sum()) == report.all.n * RECIPE.d_sae
    positive = tensors.edges[:-1] > 0.01
    assert torch.equal(tensors.histogram[positive], tensors.histogram_pre[positive])
    assert not tensors.histogram[tensors.edges[1:] < 0.01].any()


def test_neurons_are_counted_by_the_tasks_they_fire_for() -> None:
    density = torch.tensor([[0.5, 0.0, 0.2, 0.0, 0.005], [0.5, 0.0, 0.0, 0.1, 0.3]])
    found = neurons_by_tasks(density, ["sum", "concat"], 0.0)
    assert (found.one, found.several, found.none) == (2, 2, 1)
    assert found.only == {"sum": 1, "concat": 1}
    stricter = neurons_by_tasks(density, ["sum", "concat"], 0.01)
    assert (stricter.one, stricter.several, stricter.none) == (3, 1, 1)


def test_constant_vectors_have_no_explained_variance() -> None:
    n, d_model = 2.0, 3
    constant = torch.full((d_model,), 0.7, dtype=torch.double)
    zero = torch.zeros((), dtype=torch.double)
    sums = SparsitySums(*[zero] * len(SparsitySums._fields))._replace(
        positions=torch.tensor(n), resid=n * constant, resid_squared=n * constant.square().sum()
    )
    assert explained_variance(sums) is None


def test_every_number_in_the_report_is_defined(model: Transformer) -> None:
    report, _ = measure_sparsity(model, GRID, "test")
    assert vars(report.all).keys() <= DEFINITIONS.keys()


def test_a_part_that_the_split_does_not_have_is_refused(model: Transformer) -> None:
    grid = build_grid(resolve("article", {"digits": 1}))
    with pytest.raises(ToytaskError, match="test split has no example of some task"):
        measure_sparsity(model, grid, "test")
    with pytest.raises(UsageError, match="did you mean 'test'"):
        measure_sparsity(model, grid, "tset")
