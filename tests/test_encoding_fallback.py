"""Terminals whose encoding lacks the signs that are drawn with."""

import subprocess

import pytest
from conftest import TOYTASK, environment
from hypothesis import given
from hypothesis import strategies as st

from toytask_cli.cli.encoding_fallback import STAND_INS, use_encoding_fallback
from toytask_cli.cli.heatmap import SHADES
from toytask_cli.cli.train_display import SPARKS


def test_each_shade_keeps_a_sign_of_its_own():
    for drawn in (SHADES, SPARKS):
        assert len({STAND_INS[sign] for sign in drawn}) == len(drawn)


@given(st.text(st.sampled_from([*STAND_INS, *"aé→ \u202e\U0001f600"])))
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_what_cannot_be_written_has_a_stand_in_or_is_written_out(encoding, text):
    def alone(sign: str) -> bytes:
        try:
            return sign.encode(encoding)
        except UnicodeEncodeError:
            return STAND_INS.get(sign, sign).encode(encoding, "backslashreplace")

    assert text.encode(encoding, use_encoding_fallback()) == b"".join(map(alone, text))


@given(st.binary())
def test_bytes_that_cannot_be_read_are_written_out(read):
    assert read.decode("utf-8", use_encoding_fallback()) == read.decode("utf-8", "backslashreplace")


def test_a_heatmap_stays_one_where_its_shades_cannot_be_written(run):
    def shown(encoding: str) -> list[str]:
        done = subprocess.run(
            [*TOYTASK, "sparsity", str(run.path), "--prompt", "4+7", "--no-figures"],
            env=environment(PYTHONIOENCODING=encoding), capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout.decode(encoding).splitlines()

    drawn = [line for line in shown("utf-8") if line.startswith("B→11 ")]
    assert len(drawn) == 1
    plain = drawn[0].translate(str.maketrans(STAND_INS))
    assert plain in shown("ascii")
    assert set(plain.split()[1]) > {"."}
