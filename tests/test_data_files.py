"""Data that were written are read back, and nothing else is."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import cut

from toytask_cli.dataset import build_grid
from toytask_cli.errors import ToytaskError
from toytask_cli.runs import tensor_files
from toytask_cli.runs.data_files import read_spec, write_data


def test_written_data_are_read_back(here, tiny):
    manifest = write_data(build_grid(tiny.data_spec()), Path("data"))
    assert manifest["counts"]["sum"] == {"train": 50, "validation": 20, "test": 30}
    assert read_spec(Path("data")) == tiny.data_spec()


@pytest.mark.parametrize("name", ["tokens.safetensors", "manifest.json"])
@pytest.mark.parametrize("spoil", [Path.unlink, cut, lambda p: p.write_text("{}")])
def test_spoilt_data_are_one_line(here, tiny, name, spoil):
    write_data(build_grid(tiny.data_spec()), Path("data"))
    spoil(Path("data") / name)
    with pytest.raises(ToytaskError, match=r"data.*write the data again"):
        read_spec(Path("data"))


def test_data_that_were_edited_are_refused(here, tiny):
    write_data(build_grid(tiny.data_spec()), Path("data"))
    tokens = Path("data/tokens.safetensors")
    tensors, _ = tensor_files.read(tokens)
    tensors["answers"][0, 0, 1] += 1
    tensor_files.write(tokens, tensors)
    with pytest.raises(ToytaskError, match="tokens.safetensors: does not hold the data of"):
        read_spec(Path("data"))


def test_a_manifest_of_other_data_is_refused(here, tiny):
    write_data(build_grid(tiny.data_spec()), Path("data"))
    for name, values in {"seed": {"split_seed": 7}, "size": {"digits": 2}}.items():
        other = build_grid(replace(tiny.data_spec(), **values))
        write_data(other, Path(name))
        shutil.copy(Path(name) / "manifest.json", Path("data"))
        with pytest.raises(ToytaskError, match=r"tokens.safetensors: does not .*data again with"):
            read_spec(Path("data"))
