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
