"""What is made once for all places that are alike is what would have been made at each."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from toytask_cli.alike import Alike
from toytask_cli.embedding import beginnings

# Of few numbers, so that many places are alike, and of the largest there are.
NUMBERS = st.sampled_from([0, 1, 2, 3, 2**62, -(2**62)])
SEQUENCES = st.integers(1, 5).flatmap(
    lambda length: st.lists(
        st.lists(NUMBERS, min_size=length, max_size=length), min_size=1, max_size=12
    )
)


@given(SEQUENCES)
def test_places_share_a_row_just_where_their_numbers_are_equal(sequences):
    numbers = torch.tensor(sequences)
    alike = Alike.of(numbers)
    flat, rows = numbers.flatten().tolist(), alike.rows.flatten().tolist()
    assert len(set(zip(flat, rows, strict=True))) == len(set(flat)) == len(set(rows))
    assert alike.firsts.tolist() == [rows.index(row) for row in range(len(set(rows)))]


@given(SEQUENCES)
def test_what_is_picked_and_looked_up_again_is_what_was_there(sequences):
    numbers = torch.tensor(sequences)
    held = torch.stack([numbers, -numbers], dim=-1)
    alike = Alike.of(numbers)
    assert torch.equal(alike.look_up(alike.pick(held)), held)


@given(SEQUENCES)
def test_tokens_begin_alike_just_where_all_up_to_them_are_equal(sequences):
    tokens = torch.tensor(sequences).remainder(1000)
    numbers = beginnings(tokens, 1000).flatten().tolist()
    begun = [tuple(row[: at + 1]) for row in tokens.tolist() for at in range(len(row))]
    assert len(set(zip(numbers, begun, strict=True))) == len(set(begun)) == len(set(numbers))
