import os
import subprocess
import sys

import pytest
import torch

from toytask_cli import device
from toytask_cli.device import cores_of_quota, find_device, find_precision
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


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "5000 100000\n"}, 1),
        ({"cpu.max": "not a number"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_the_limit_of_a_container_is_read(files, cores, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores_of_quota(tmp_path) == cores


@pytest.mark.parametrize(("variables", "threads"), [({}, 1), ({"OMP_NUM_THREADS": "4"}, 4)])
def test_threads_stay_below_that_limit_unless_the_user_sets_them(variables, threads, monkeypatch):
    used = []
    monkeypatch.setattr(device, "cores_of_quota", lambda: 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    find_device("cpu")
    assert (used or [4]) == [threads]


@pytest.mark.parametrize(
    ("variables", "policy"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "9"}, None)],
)
def test_threads_do_not_spin_while_they_wait_unless_the_user_says_so(variables, policy):
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    script = (
        "import toytask_cli, os, sys\n"
        "print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=clean | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(policy), "False"]
