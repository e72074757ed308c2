import pytest
import torch

from toytask_cli.device import find_device, find_precision
from toytask_cli.errors import ToytaskError


def test_a_device_or_precision_that_is_not_there_is_one_line():
    with pytest.raises(ToytaskError, match="unknown device 'gpu'"):
        find_device("gpu")
    with pytest.raises(ToytaskError, match="unknown precision 'float16'"):
        find_precision("float16", torch.device("cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(ToytaskError, match="no cuda device: use --device cpu"):
            find_device("cuda")


@pytest.mark.parametrize(
    ("processor", "precision"),
    [
        ({"avx512_bf16": True, "amx_tile": True}, torch.bfloat16),
        ({"avx512_bf16": True, "amx_tile": False}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"architecture": "arm64", "bf16": True}, torch.float32),
    ],
)
def test_bfloat16_is_taken_where_an_x86_processor_multiplies_it(processor, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    assert find_precision("auto", torch.device("cpu")) == precision
