"""Data that were written are taken back, and nothing else is."""

from pathlib import Path

import pytest
from conftest import cut

from toytask_cli.dataset import build_grid
from toytask_cli.errors import ToytaskError
from toytask_cli.runs import tensor_files
from toytask_cli.runs.data_files import read_spec, write_data


def test_written_data_are_taken_back(here, tiny):
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
    tensors = tensor_files.read(tokens, "")
    tensors["answers"][0, 0, 1] += 1
    tensor_files.write(tokens, tensors)
    with pytest.raises(ToytaskError, match="is not the file of its manifest"):
        read_spec(Path("data"))
