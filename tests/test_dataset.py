import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from toytask_cli.dataset import StringDataset, build_grid, padded_length
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.folds import fold_names
from toytask_cli.recipe import DataSpec, resolve
from toytask_cli.splits import SPLITS
from toytask_cli.tasks import TASKS

specs = st.builds(
    DataSpec,
    tasks=st.permutations(list(TASKS)).flatmap(
        lambda names: st.integers(2, len(names)).map(lambda n: tuple(names[:n]))
    ),
    digits=st.just(1),
    split_by=st.sampled_from(["pair", "example"]),
    train_fraction=st.floats(0.1, 0.5),
    validation_fraction=st.floats(0.1, 0.5),
    split_seed=st.integers(0, 1000),
)


@given(specs)
@settings(max_examples=25)
def test_every_example_is_its_prompt_and_answer_tokenised_one_by_one(spec):
    grid = build_grid(spec)
    for t, task in enumerate(grid.tasks):
        for pair in range(0, grid.n_pairs, 7):
            a, b = divmod(pair, 10)
            prompt, answer = grid.tokenizer.encode(task.prompt(a, b)), task.answer(a, b)
            assert grid.prompts[t, pair].tolist() == prompt
            ids = grid.tokenizer.encode(answer)
            padded = ids + [0] * (grid.answers.shape[-1] - len(ids))
            assert grid.answers[t, pair].tolist() == padded


@given(specs)
@settings(max_examples=25)
def test_splits_are_disjoint_complete_and_of_the_size_asked_for(spec):
    grid = build_grid(spec)
    splits = [grid.split(name) for name in SPLITS]
    members = [set(zip(s.tasks.tolist(), s.pairs.tolist(), strict=True)) for s in splits]
    n = grid.splits.numel()
    assert sum(map(len, members)) == len(set.union(*members)) == n
    unit = len(grid.tasks) if spec.split_by == "pair" else 1
    assert abs(len(splits[0]) - n * spec.train_fraction) <= unit
    assert abs(len(splits[1]) - n * spec.validation_fraction) <= unit


@given(specs)
@settings(max_examples=25)
def test_matched_pairs_were_never_trained_on_and_never_overlap(spec):
    grid = build_grid(spec)
    try:
        choose, report = (set(pairs.tolist()) for pairs in grid.matched_pairs())
    except ToytaskError:
        assume(False)
    assert not choose & report
    trained = set(grid.split("train").pairs.tolist())
    assert not (choose | report) & trained


def test_a_split_that_leaves_no_matched_pairs_is_one_line():
    spec = DataSpec(tasks=tuple(TASKS), digits=1, split_by="example", validation_fraction=0.1)
    with pytest.raises(ToytaskError, match="train with --split-by pair"):
        build_grid(spec).matched_pairs()


def test_the_same_spec_gives_the_same_grid_and_another_seed_another_split():
    one, same, other = (build_grid(DataSpec(digits=1, split_seed=s)) for s in (3, 3, 4))
    assert torch.equal(one.splits, same.splits)
    assert not torch.equal(one.splits, other.splits)


def test_the_default_grid_has_the_sources_counts():
    grid = build_grid(DataSpec())
    assert [len(grid.split(name)) for name in SPLITS] == [6000, 4000, 10000]
    assert grid.prompts.shape == (2, 10000, 5)
    assert grid.answers.shape == (2, 10000, 4)
    assert grid.merged_tokens().sum(dim=1).tolist() == [0, 1889]
    two_numbers = (grid.answers[1] != 0).sum(dim=-1) == 4
    assert two_numbers.float().mean().item() == pytest.approx(0.9722)


@pytest.mark.parametrize("seed", range(5))
def test_a_split_by_pair_teaches_every_answer_token_wherever_an_answer_has_it(seed):
    grid = build_grid(DataSpec(split_seed=seed))
    assert not grid.unseen_token().any()
    assert build_grid(DataSpec(split_seed=seed, split_by="example")).unseen_token().any()


@pytest.mark.parametrize("total", [2, 5, 7])
def test_folds_test_every_pair_exactly_once(total):
    grids = [build_grid(DataSpec(split_by=name, split_seed=3)) for name in fold_names(total)]
    tested = torch.stack([grid.splits == SPLITS.index("test") for grid in grids])
    assert (tested.sum(dim=0) == 1).all()
    for grid in grids:
        sizes = [len(grid.split(name)) for name in SPLITS]
        assert sum(sizes) == grid.splits.numel()
        assert abs(sizes[0] / (sizes[0] + sizes[1]) - 0.3 / 0.5) < 1e-3
        assert (grid.splits == grid.splits[:1]).all()


def test_the_train_split_of_a_fold_shows_every_token_that_it_can():
    grid = build_grid(DataSpec(split_by="fold-1-of-5"))
    unseen, validation = grid.unseen_token(), grid.splits == SPLITS.index("validation")
    assert not unseen[validation].any()
    assert unseen.any()  # tokens that only the fold's own pairs have


def test_more_folds_than_pairs_leave_some_empty():
    with pytest.raises(UsageError, match="no example of sum is left for the test split"):
        build_grid(DataSpec(digits=1, split_by="fold-1-of-200"))


def test_a_split_by_pair_keeps_twins_together():
    splits = build_grid(DataSpec(tasks=("sum", "concat", "max"))).splits
    assert (splits == splits[:1]).all()


def test_the_articles_split_has_no_test_split_and_halves_its_matched_pairs():
    grid = build_grid(resolve("article").data_spec())
    assert grid.report_split == "validation"
    assert [len(grid.split(name)) for name in SPLITS] == [6000, 14000, 0]
    halves = grid.matched_pairs()
    assert abs(len(halves[0]) - len(halves[1])) <= 1


@given(specs)
@settings(max_examples=10)
def test_a_token_is_unseen_where_training_lacks_it_at_this_position_and_length(spec):
    grid = build_grid(spec)
    unseen = grid.unseen_token()
    for t in range(len(grid.tasks)):
        shown = []
        for answer in grid.answers[t].tolist():
            tokens = [token for token in answer if token]
            shown.append({(len(tokens), position, token) for position, token in enumerate(tokens)})
        in_training = (grid.splits[t] == 0).tolist()
        learnt = set().union(*(s for s, train in zip(shown, in_training, strict=True) if train))
        assert unseen[t].tolist() == [bool(s - learnt) for s in shown]


def test_matched_examples_are_twins():
    grid = build_grid(DataSpec(digits=1))
    twins = grid.matched(torch.tensor([12, 47]))
    assert [grid.tokenizer.decode(t.prompts[1].tolist()) for t in twins] == ["B4+7E", "B4C7E"]


def test_the_string_dataset_works_in_a_data_loader():
    grid = build_grid(DataSpec(digits=2))
    dataset = StringDataset(grid.split("validation"), padded_length(2))
    prompts, answers = next(iter(DataLoader(dataset, batch_size=512)))
    assert prompts.shape == answers.shape == (512, 8)
    decoded = grid.tokenizer.decode(prompts[0].tolist())
    assert decoded.startswith("B")
    assert decoded.endswith("E")
