"""Single files: whole or not at all when written, strict when read, JSON as well as tensors."""

import json
import os
from pathlib import Path

import pytest
import torch
from conftest import all_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import tensor_files
from toytask_cli.runs.files import read_json, reading, write_json
from toytask_cli.runs.metrics import read_metrics


@given(content=st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_a_reader_crash(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    for read in (read_json, tensor_files.read):
        message = r"file: .*: make it again"
        with pytest.raises(ToytaskError, match=message), reading(path, "make it again"):
            read(path)


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
    back, _ = tensor_files.read(tmp_path / "t")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_json(path, {"a": 1})
    before = all_files(tmp_path)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": 2})
    assert all_files(tmp_path) == before


def test_numbers_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert all_files(tmp_path) == {}


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("read", [read_json, tensor_files.read])
def test_only_regular_files_are_read(here, read, make):
    make(here / "x")
    with pytest.raises(ToytaskError, match="not a regular file"):
        read(here / "x")


@pytest.mark.parametrize("read", [read_json, tensor_files.read])
def test_a_file_too_large_is_not_read_either(here, read):
    (here / "x").touch()
    os.truncate(here / "x", 2**40)
    with pytest.raises(ToytaskError, match=r"too large \(1,099,511,627,776 bytes, "):
        read(here / "x")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_never_read(here, number):
    (here / "x").write_text(f'{{"schema_version": 2, "loss": {number}}}')
    with pytest.raises(ToytaskError, match="cut or not JSON"):
        read_json(here / "x")
    tensor_files.write(here / "y", {"loss": torch.tensor([1.0, float(number)])})
    with pytest.raises(ToytaskError, match="holds a number that is not finite"):
        tensor_files.read(here / "y")


def test_a_syntax_error_is_named_by_its_line_and_column(here):
    (here / "x").write_text('{"schema_version": 2,\n "a": 1,\n "b" 2}')
    with pytest.raises(ToytaskError, match=r"not JSON \(line 3, column 6: Expecting ':'"):
        read_json(here / "x")


def test_in_a_file_of_many_objects_it_is_the_line_of_the_file(here):
    (here / "x").write_text('{"epoch": 1, "seconds": 1.0}\n{"epoch": 2, "sec')
    with pytest.raises(ToytaskError, match=r"not JSON \(line 2, column 14: "):
        read_metrics(here / "x")


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '{"b": [{"a": 1, "c": 2, "a": 3}]}'])
def test_a_key_that_is_given_twice_is_refused(here, text):
    (here / "x").write_text(text)
    with pytest.raises(ToytaskError, match="key 'a' is given twice"):
        read_json(here / "x")


@pytest.mark.parametrize("depth", [17, 900, 10**5])
def test_deep_json_is_refused_before_anything_walks_it(here, depth):
    (here / "x").write_text('{"a":' * depth + "1" + "}" * depth)
    with pytest.raises(ToytaskError, match="nested too deep|cut or not JSON"):
        read_json(here / "x")


def test_every_single_bit_of_a_tensor_file_counts(here):
    tensors = {"a": torch.arange(4.0), "b": torch.tensor([1, 2])}
    tensor_files.write(here / "x", tensors, {"bound": "to"})
    sound = (here / "x").read_bytes()
    for bit in range(8 * len(sound)):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        (here / "x").write_bytes(flipped)
        try:
            back, metadata = tensor_files.read(here / "x")
        except ToytaskError:
            continue
        # The key of the metadata or of the checksum was hit, or a blank: nothing else was.
        assert {n: t.tolist() for n, t in back.items()} == {"a": [0, 1, 2, 3], "b": [1, 2]}
        assert metadata == {} or metadata["bound"] == "to"


def test_a_message_shows_no_more_of_a_file_than_a_line_can_hold(here):
    tensors = {"\x1b[31m\n" + 999 * "x": torch.tensor(1.0)}
    with pytest.raises(ToytaskError, match="does not fit") as error:
        tensor_files.check_layout(tensors, {}, here / "config.json")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300


def test_json_that_was_changed_is_refused_and_json_by_hand_is_read(here):
    written = write_json(here / "x", {"a": 1})
    assert read_json(here / "x") == {"a": 1}
    (here / "x").write_text(json.dumps({**written, "a": 2}))
    with pytest.raises(ToytaskError, match="changed since it was written"):
        read_json(here / "x")
    (here / "x").write_text('{"schema_version": 2, "a": 2}')
    assert read_json(here / "x") == {"a": 2}


@pytest.mark.parametrize("version", ["0", "1", "3", '"2"', "2.0", "true", "null"])
def test_json_of_another_version_is_refused(here, version):
    (here / "x").write_text(f'{{"schema_version": {version}, "a": 2}}')
    with pytest.raises(ToytaskError, match="not written by toytask|an older|a newer toytask"):
        read_json(here / "x")
