"""A study on a Dask cluster of real processes: the same bytes as here, whatever dies."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from conftest import SMALL, environment, options
from processes import start

from toytask_cli.studies import workers

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'toytask[cluster]'")

TWO = ["--seeds", "0-1", "--split-seeds", "0", "--precision", "float32"]  # of the four runs
SAME = ["study", *options(SMALL), *TWO, "--no-figures"]
QUIET = ["--no-dashboard", "--scheduler-file", "scheduler.json"]


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


Process = subprocess.Popen[bytes]


def dask(*args: str) -> Process:
    """A part of Dask, which writes its log into the present directory."""
    with open("cluster.log", "ab") as log:
        command = [sys.executable, "-m", "dask", *args, *QUIET]
        return subprocess.Popen(command, env=environment(), stdout=log, stderr=log)


def end(process: Process) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def scheduler(here: Path) -> Iterator[Process]:
    """A scheduler that `scheduler.json` in the present directory describes."""
    process = dask("scheduler", "--host", "127.0.0.1", "--port", "0")
    wait_for((here / "scheduler.json").exists)
    yield process
    end(process)


@pytest.fixture
def two_workers(scheduler: Process) -> Iterator[list[Process]]:
    """Two workers of the scheduler."""
    worker = ["worker", "--nthreads", "1", "--no-nanny", "--memory-limit", "0"]
    processes = [dask(*worker, "--name", name) for name in ("one", "two")]
    yield processes
    for process in processes:
        end(process)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command wait for no more than two seconds where nothing answers."""
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 2)


def address_of_scheduler() -> str:
    """Read the address that `scheduler.json` in the present directory gives."""
    return json.loads(Path("scheduler.json").read_text())["address"]


def drive(address: str) -> "subprocess.Popen[str]":
    """The command, on the cluster of the scheduler at this address."""
    return start(*SAME, "--cluster", address)


def children(process: Process) -> list[str]:
    """The processes that a process has started."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return " ".join(path.read_text() for path in tasks).split()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_cluster_that_loses_a_worker_gives_the_same_bytes_as_one_machine(
    studied, here, two_workers
):
    driver = drive(address_of_scheduler())
    wait_for(lambda: all(map(children, two_workers)))
    (orphan,) = children(two_workers[0])
    two_workers[0].kill()
    _, printed = driver.communicate(timeout=300)
    assert driver.returncode == 0, printed
    report, other = (
        json.loads((place / "runs" / "study-01" / "reports" / "study.json").read_text())
        for place in (here, studied)
    )
    expected = {run["id"]: run["values"] for run in other["runs"]}
    for run in report["runs"]:
        path = Path(run["path"], "model.safetensors")
        assert (here / path).read_bytes() == (studied / path).read_bytes()
        assert {**run["values"], "seconds": None} == {**expected[run["id"]], "seconds": None}
    assert (report["n_finished"], report["n_failed"]) == (2, 0)
    wait_for(lambda: not Path(f"/proc/{orphan}").exists())


@pytest.mark.usefixtures("impatient")
def test_a_scheduler_that_dies_is_no_traceback_and_the_study_can_go_on(here, scheduler):
    driver = drive(address_of_scheduler())
    log = Path("cluster.log")
    wait_for(lambda: log.read_text().count("Receive client connection") == 2)  # the first asks only
    time.sleep(2)  # for the runs to be handed over
    end(scheduler)
    out, printed = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert "Traceback" not in printed
    assert "0 of 2 runs finished, 2 failed, 0 left" in out
    assert "next: toytask study runs/study-01 --cluster tcp://127.0.0.1:" in printed


@pytest.fixture
def foreign_server() -> Iterator[str]:
    """The address of something that is no scheduler."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        Thread(target=answer, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.usefixtures("impatient")
def test_a_cluster_that_does_not_answer_is_one_line_and_writes_nothing(here, foreign_server):
    """Try where nothing, no host, no name, or something else answers."""
    for address in ("tcp://127.0.0.1:9", "nonsense", "", foreign_server):
        driver = drive(address)
        _, printed = driver.communicate(timeout=120)
        assert driver.returncode == 1
        assert printed.startswith(f"error: no scheduler answers at {address}: start one")
        assert printed.count("\n") == 1
    assert list(here.iterdir()) == []
