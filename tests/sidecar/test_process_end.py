"""How processes end, as viewers are told: those of multiprocessing too, which run nothing of `atexit`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_tui.sources.feed import ProcessState, SnapshotFeed
from launched import environment

pytestmark = pytest.mark.slow

HOST: Final = """
import multiprocessing, sys, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)

def work(how, ready):
    import gpumodels, torch
    gpumodels.start(interval=0.1, label="worker")
    model = torch.nn.Linear(512, 512)
    from gpumodels.sidecar import published_names
    while "Linear" not in published_names():
        time.sleep(0.02)
    ready.set()
    if how == "kill":
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fail":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 24.00 GiB")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ready = context.Event()
    child = context.Process(target=work, args=(sys.argv[2], ready))
    child.start()
    child.join()
    print(ready.is_set(), child.exitcode)
"""


def worker(folder: Path, method: str, how: str) -> tuple[str, ProcessState]:
    """What the host prints, and what viewers are told of its worker then."""
    (folder / "host.py").write_text(HOST)
    done = subprocess.run(
        [sys.executable, "host.py", method, how],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert ("OutOfMemoryError" in done.stderr) == (how == "fail"), "the error stays the host's"
    feed = SnapshotFeed([folder / "gpm"])
    (process,) = feed.poll().processes
    feed.close()
    return done.stdout, process


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_worker_that_ends_has_exited_and_one_that_is_killed_is_dead(method: str, tmp_path: Path) -> None:
    for how, code, liveness in (("end", 0, Liveness.EXITED), ("kill", -9, Liveness.DEAD)):
        folder = tmp_path / how
        folder.mkdir()
        printed, process = worker(folder, method, how)
        assert (printed, process.liveness) == (f"True {code}\n", liveness)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_failed_allocation_that_ends_a_worker_is_on_record(method: str, tmp_path: Path) -> None:
    printed, process = worker(tmp_path, method, "fail")
    assert (printed, process.liveness) == ("True 1\n", Liveness.EXITED)
    assert process.snapshot is not None
    (failure,) = process.snapshot.out_of_memory
    assert (failure.requested_bytes, failure.device, failure.noticed_by) == (2 << 30, "cuda:0", "exception")
