"""Single files: whole or not at all when written, strict when read, JSON as well as tensors."""

import os
from pathlib import Path

import pytest
import torch
from conftest import all_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import json_files, tensor_files


@given(content=st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_a_reader_crash(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    for read in (json_files.read, tensor_files.read, tensor_files.read_metadata):
        with pytest.raises(ToytaskError, match=r"file .*: make it again|file .*make it again"):
            read(path, "make it again")


@given(
    tensors=st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5).map(
            torch.tensor
        ),
    ),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tensors_survive_a_round_trip_bit_for_bit(tmp_path, tensors):
    tensor_files.write(tmp_path / "t", tensors)
    back = tensor_files.read(tmp_path / "t", "")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    json_files.write(path, {"a": 1})
    before = all_files(tmp_path)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        json_files.write(path, {"a": 2})
    assert all_files(tmp_path) == before


def test_numbers_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_files.write(tmp_path / "x.json", {"loss": float("nan")})
    assert all_files(tmp_path) == {}


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("read", [json_files.read, tensor_files.read, tensor_files.read_metadata])
def test_what_is_no_file_is_not_read(here, read, make):
    make(here / "x")
    with pytest.raises(ToytaskError, match=r"cannot read .*x \(no file\): make it again"):
        read(here / "x", "make it again")


@pytest.mark.parametrize("read", [json_files.read, tensor_files.read])
def test_a_file_too_large_is_not_read_either(here, read):
    (here / "x").touch()
    os.truncate(here / "x", 2**40)
    with pytest.raises(ToytaskError, match=r"x is too large \(1,099,511,627,776 bytes, "):
        read(here / "x", "make it again")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_never_read(here, number):
    (here / "x").write_text(f'{{"schema_version": 2, "loss": {number}}}')
    with pytest.raises(ToytaskError, match="x is cut or no JSON"):
        json_files.read(here / "x", "")
    tensor_files.write(here / "y", {"loss": torch.tensor([1.0, float(number)])})
    with pytest.raises(ToytaskError, match=r"y holds a number that is not finite \(in 'loss'\)"):
        tensor_files.read(here / "y", "")


@pytest.mark.parametrize("depth", [17, 900, 10**5])
def test_deep_json_is_refused_before_anything_walks_it(here, depth):
    (here / "x").write_text('{"a":' * depth + "1" + "}" * depth)
    with pytest.raises(ToytaskError, match="x is (nested too deep|cut or no JSON)"):
        json_files.read(here / "x", "")


def test_every_single_bit_of_a_tensor_file_counts(here):
    tensors = {"a": torch.arange(4.0), "b": torch.tensor([1, 2])}
    tensor_files.write(here / "x", tensors, {"bound": "to"})
    sound = (here / "x").read_bytes()
    for bit in range(8 * len(sound)):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        (here / "x").write_bytes(flipped)
        try:
            found = tensor_files.read(here / "x", "")
        except ToytaskError:
            continue
        # The name of the seal was hit, or a blank: nothing else was.
        assert {n: t.tolist() for n, t in found.items()} == {"a": [0, 1, 2, 3], "b": [1, 2]}
        assert tensor_files.read_metadata(here / "x", "")["bound"] == "to"


def test_a_message_shows_no_more_of_a_file_than_a_line_can_hold(here):
    tensor_files.write(here / "x", {"\x1b[31m\n" + 999 * "x": torch.tensor(torch.nan)})
    with pytest.raises(ToytaskError) as error:
        tensor_files.read(here / "x", "")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300
