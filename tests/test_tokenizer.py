import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toytask_cli.tasks import TASKS, find_tasks
from toytask_cli.tokenizer import PAD, Tokenizer, UnknownCharacterError

DEFAULT = Tokenizer.for_tasks(find_tasks(["sum", "concat"]), 2)
ALL = Tokenizer.for_tasks(tuple(TASKS.values()), 2)
ODD = Tokenizer(["C", "+", "×"], 9702)
texts = st.text(alphabet="BEC+ 0123456789", max_size=12)


def test_the_default_vocabulary_is_the_sources_204_tokens():
    assert len(DEFAULT) == 204
    assert DEFAULT.tokens[:7] == (" ", "B", "E", "C", "+", "0", "1")
    assert DEFAULT.tokens[-1] == "198"


def test_the_vocabulary_does_not_depend_on_the_order_of_tasks():
    assert Tokenizer.for_tasks(find_tasks(["concat", "sum"]), 2).tokens == DEFAULT.tokens


def test_parsing_takes_the_longest_match():
    assert DEFAULT.encode("B12C34E") == [1, 17, 3, 39, 2]
    assert [DEFAULT.tokens[i] for i in DEFAULT.encode("B1234E")] == ["B", "123", "4", "E"]
    assert [DEFAULT.tokens[i] for i in DEFAULT.encode("B1990E")] == ["B", "19", "90", "E"]
    assert [DEFAULT.tokens[i] for i in DEFAULT.encode("B007E")] == ["B", "0", "0", "7", "E"]


@given(texts)
def test_decoding_gives_back_what_was_encoded_apart_from_pads(text):
    assert DEFAULT.decode(DEFAULT.encode(text)) == text.replace(" ", "")


@given(texts)
def test_no_token_could_have_been_longer(text):
    position = 0
    for i in DEFAULT.encode(text):
        token = DEFAULT.tokens[i]
        longer = [t for t in DEFAULT.tokens if len(t) > len(token)]
        assert text.startswith(token, position)
        assert not any(text.startswith(t, position) for t in longer)
        position += len(token)


@given(st.lists(texts, min_size=1, max_size=8), st.sampled_from([DEFAULT, ALL, ODD]))
def test_encoding_all_at_once_is_encoding_one_by_one(many, tokenizer):
    rows = tokenizer.encode_all(np.array(many))
    one_by_one = [tokenizer.encode(text) for text in many]
    longest = max(map(len, one_by_one))
    assert rows.tolist() == [ids + [PAD] * (longest - len(ids)) for ids in one_by_one]


@pytest.mark.parametrize("text", ["B4x7E", "B4é7E", "B4\t7E"])
def test_an_unknown_character_is_named_with_its_position_and_what_would_be_valid(text):
    with pytest.raises(UnknownCharacterError, match=r"at position 3 .* digits and B E C \+"):
        DEFAULT.encode(text)
    with pytest.raises(UnknownCharacterError, match="at position 3"):
        DEFAULT.encode_all(np.array(["B1E", text]))
