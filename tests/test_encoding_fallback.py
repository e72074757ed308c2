"""Terminals whose encoding lacks the characters of tables and heatmaps."""

import subprocess

import pytest
from conftest import TOYTASK, Command, environment
from hypothesis import given
from hypothesis import strategies as st

from toytask_cli.cli.encoding_fallback import REPLACEMENTS, register_encoding_fallback
from toytask_cli.cli.heatmap import SHADES
from toytask_cli.cli.train_display import SPARKS


def test_each_shade_keeps_a_character_of_its_own():
    for drawn in (SHADES, SPARKS):
        assert len({REPLACEMENTS[character] for character in drawn}) == len(drawn)


@given(st.text(st.sampled_from([*REPLACEMENTS, *"aé→ \u202e\U0001f600"])))
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_character_that_cannot_be_written_is_replaced_or_escaped(encoding, text):
    def alone(character: str) -> bytes:
        try:
            return character.encode(encoding)
        except UnicodeEncodeError:
            return REPLACEMENTS.get(character, character).encode(encoding, "backslashreplace")

    assert text.encode(encoding, register_encoding_fallback()) == b"".join(map(alone, text))


@given(st.binary())
def test_bytes_that_cannot_be_read_are_escaped(read):
    assert read.decode("utf-8", register_encoding_fallback()) == read.decode(
        "utf-8", "backslashreplace"
    )


def test_a_heatmap_keeps_its_columns_where_its_shades_cannot_be_written(toytask: Command, run):
    command = ["sparsity", str(run.path), "--prompt", "4+7", "--no-figures"]
    drawn = [line for line in toytask(*command).out.splitlines() if line.startswith("B→11 ")]
    assert len(drawn) == 1
    plain = drawn[0].translate(str.maketrans(REPLACEMENTS))
    done = subprocess.run(
        [*TOYTASK, *command],
        env=environment(PYTHONIOENCODING="ascii"), capture_output=True, check=True,
    )  # fmt: skip
    assert plain in done.stdout.decode("ascii").splitlines()
    assert set(plain.split()[1]) > {"."}
