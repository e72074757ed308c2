"""The pattern over both operands that a neuron follows, on neurons set by hand."""

import pytest
import torch
from memorised import memorised

from toytask_cli.analysis.atlas import NO_PATTERN, describe_neurons, pattern_sentence
from toytask_cli.analysis.matched_pairs import MatchedPairs
from toytask_cli.analysis.operand_maps import at_all_operands
from toytask_cli.analysis.patterns import TOKEN, GroupSums, explained_share, numbers_at
from toytask_cli.dataset import build_grid
from toytask_cli.recipe import resolve

DRAW = torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def grid():
    """All pairs of two digits, for three tasks."""
    return build_grid(resolve("default", {"tasks": ("sum", "concat", "max")}).data_spec())


def sums_of(acts: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    groups = GroupSums(int(values.max()) + 1, acts.shape[1])
    groups.add(acts, {"a": values})
    return groups.sums["a"], groups.counts["a"], groups.squares


def by_definition(acts: torch.Tensor, values: torch.Tensor) -> float:
    """ε² of one neuron, group by group."""
    groups = [acts[values == value].double() for value in values.unique()]
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    total = float(((acts.double() - acts.double().mean()) ** 2).sum())
    return 1 - (within / (len(acts) - len(groups))) / (total / (len(acts) - 1))


def test_the_share_is_the_variance_between_groups_adjusted_for_their_number():
    values = torch.randint(0, 7, (300,), generator=DRAW)
    acts = torch.rand(300, 5, generator=DRAW) + values[:, None] * torch.arange(5) / 20
    expected = [by_definition(acts[:, i], values) for i in range(5)]
    assert explained_share(*sums_of(acts, values)).tolist() == pytest.approx(
        [max(0, share) for share in expected], abs=1e-9
    )


def test_many_groups_explain_nothing_of_noise():
    values = torch.arange(2000) % 500
    noise = torch.rand(2000, 50, generator=DRAW)
    sums, counts, squares = sums_of(noise, values)
    unadjusted = (sums**2 / counts[:, None]).sum(dim=0) - sums.sum(dim=0) ** 2 / 2000
    assert (unadjusted / (squares - sums.sum(dim=0) ** 2 / 2000)).mean() > 0.2
    assert explained_share(sums, counts, squares).mean() < 0.03


def test_nothing_is_explained_of_what_does_not_vary_or_where_each_pair_is_its_own_group():
    constant = torch.full((50, 1), 0.7)
    assert explained_share(*sums_of(constant, torch.arange(50) % 5)).item() == 0
    noise = torch.rand(50, 1, generator=DRAW)
    assert explained_share(*sums_of(noise, torch.arange(50))).item() == 0


def hand_set(a: torch.Tensor, b: torch.Tensor) -> dict[str, tuple[torch.Tensor, str | None]]:
    """By name: a neuron's activation at pairs, and the pattern that it follows."""
    total = a + b
    return {
        "comb": (total % 10 == 3, "last digit of a + b"),
        "uneven comb": ((total % 10 == 3) * (1 + total / 400), "last digit of a + b"),
        "band": (total // 10 == 7, "tens of a + b"),
        "two bands": (total // 10 % 10 == 7, "tens digit of a + b"),
        "from a hundred on": (total >= 100, "hundreds of a + b"),
        "three sums": (torch.isin(total, torch.tensor([17, 58, 123])), "a + b"),
        "stripe": (a == 40, "a"),
        "stripes": (a % 10 == 4, "last digit of a"),
        "columns": (b % 10 == 4, "last digit of b"),
        "larger operand": (torch.maximum(a, b) == 70, "max(a, b)"),
        "noise": (torch.rand(len(a), generator=DRAW), None),
        "constant": (torch.ones(len(a)), None),
        "silent": (torch.zeros(len(a)), None),
        "one pair": ((a == 12) & (b == 34), None),
    }


def test_neurons_set_by_hand_follow_the_pattern_that_they_were_set_to(grid):
    examples = grid.matched(torch.arange(grid.n_pairs))[0]
    neurons = hand_set(*grid.operands(examples.pairs))
    acts = torch.stack([acts.float() for acts, _ in neurons.values()], dim=1)
    groups = GroupSums(len(grid.tokenizer), len(neurons))
    for rows in torch.randperm(grid.n_pairs, generator=DRAW).split(999):
        groups.add(acts[rows], numbers_at(grid, examples[rows], 0))
    shares = groups.shares()
    assert shares.means.tolist() == pytest.approx(acts.mean(dim=0).tolist(), abs=1e-6)
    for i, (name, (_, expected)) in enumerate(neurons.items()):
        pattern = shares.pattern_of(i)
        assert pattern.name == expected, name
        assert (pattern.explained > 0.9) == (expected is not None), name


def test_what_depends_on_the_token_alone_follows_the_token(grid):
    examples = grid.matched(torch.arange(grid.n_pairs))[grid.task_names.index("concat")]
    tokens = examples.answers[:, 2]
    acts = (tokens == grid.tokenizer.encode("7")[0]).float()[:, None]
    groups = GroupSums(len(grid.tokenizer), 1)
    groups.add(acts, numbers_at(grid, examples, position=1))
    assert groups.shares().pattern_of(0).name == TOKEN


def test_a_sentence_names_every_pattern_and_how_many_follow_it():
    counts = {"last digit of a + b": 41, "a + b": 37, NO_PATTERN: 1200}
    assert pattern_sentence("sum", counts) == (
        "of 1,278 sum neurons, 41 follow the last digit of a + b, 37 a + b; 1,200 follow no simple "
        "pattern"
    )
    assert pattern_sentence("max", {NO_PATTERN: 2}).endswith("neurons, 2 follow no simple pattern")
    assert pattern_sentence("max", {TOKEN: 2}) == "of 2 max neurons, 2 follow the answer token"
    assert pattern_sentence("max", {}) == "no neuron fires most for max"


# On a model


@pytest.fixture
def set_by_hand(monkeypatch):
    """A model whose neurons 0 to 3 fire as written here and whose others are silent."""
    model, grid = memorised("sum", "concat")

    def batch(self, task, rows):
        examples = self.grid.examples(torch.full_like(rows, task), self.pairs[rows])
        a, b = self.grid.operands(examples.pairs)
        acts = torch.zeros(len(rows), 3, model.sae.d_sae)
        if task == 0:
            acts[:, 0, 0] = ((a + b) % 10 == 3).float()  # in sum alone
            acts[:, 1, 1] = 1 + (a == 5) / 10  # at the end of the answer
        else:
            acts[:, 1, 2] = a / 10  # the second token of concat
        acts[:, 0, 3] = (b + task) / 100  # in both, more in concat
        return examples, acts

    monkeypatch.setattr(MatchedPairs, "batch", batch)
    monkeypatch.setattr(model.sae, "encode", lambda resid: resid)
    return at_all_operands(model, grid)


def test_a_neuron_is_described_where_its_mean_activation_is_largest(set_by_hand):
    d_sae = set_by_hand.model.sae.d_sae
    live = torch.arange(d_sae) < 4
    importance = torch.zeros(2, d_sae)
    importance[0, 1], importance[1, 2] = 0.5, 0.7
    atlas, maps = describe_neurons(set_by_hand, importance, live)
    found = {row.neuron: (row.task, row.position, row.pattern) for row in atlas.neurons}
    assert list(found.items()) == [
        (2, ("concat", 1, "a")),
        (1, ("sum", 1, "a")),
        (0, ("sum", 0, "last digit of a + b")),
        (3, ("concat", 0, "b")),
    ]
    assert atlas.patterns == {"sum": {"a": 1, "last digit of a + b": 1}, "concat": {"a": 1, "b": 1}}
    prompts = {row.neuron: row.prompts.split() for row in atlas.neurons}
    assert {text[0] for text in prompts[1]} == {"5"}
    assert {text[2] for text in prompts[3]} == {"9"}
    assert all("C" in text for text in prompts[2] + prompts[3])
    assert maps.map_neurons.tolist() == list(found)
    assert maps.map_peaks.tolist() == pytest.approx([0.9, 1.1, 1, 0.1])


def test_without_live_neurons_nothing_is_described(set_by_hand):
    d_sae = set_by_hand.model.sae.d_sae
    atlas, maps = describe_neurons(set_by_hand, torch.zeros(2, d_sae), torch.zeros(d_sae) > 0)
    assert (atlas.neurons, atlas.patterns) == ([], {"sum": {}, "concat": {}})
    assert len(maps.map_levels) == 0
