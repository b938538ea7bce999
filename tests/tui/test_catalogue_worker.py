"""Tests of the header worker: a real process, and what is done when it hangs, dies or never starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gpumodels_tui.catalogue.header_reader import HeaderWorker, NoWorkerError, TimedOutError
from gpumodels_tui.catalogue.headers import UnreadableError
from model_files import framed, titled, write_model

pytestmark = pytest.mark.slow


@pytest.fixture
def worker() -> Iterator[HeaderWorker]:
    worker = HeaderWorker()
    yield worker
    worker.close()


def title_of(worker: HeaderWorker, path: Path) -> str:
    header = worker.read(str(path), ".safetensors")
    assert header is not None
    return header.metadata["modelspec.title"]


def test_no_file_no_process(worker: HeaderWorker) -> None:
    assert worker.pid is None


def test_files_are_read_by_one_modest_process_without_a_terminal(worker: HeaderWorker, tmp_path: Path) -> None:
    assert title_of(worker, titled(tmp_path / "a.safetensors", "A")) == "A"
    process = psutil.Process(worker.pid)
    assert title_of(worker, titled(tmp_path / "b.safetensors", "B")) == "B"
    assert worker.pid == process.pid
    assert process.nice() > psutil.Process().nice()
    assert os.getsid(process.pid) == process.pid


def test_a_hanging_worker_is_given_up_and_replaced(tmp_path: Path) -> None:
    worker = HeaderWorker(read_seconds=0.3)
    path = titled(tmp_path / "a.safetensors", "A")
    title_of(worker, path)
    hanging = worker.pid
    assert hanging is not None
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(TimedOutError, match=r"no answer within 0\.3 s"):
        title_of(worker, path)
    assert not psutil.pid_exists(hanging)
    assert title_of(worker, path) == "A"
    worker.close()


def test_a_worker_that_died_since_the_last_file_is_no_files_fault(worker: HeaderWorker, tmp_path: Path) -> None:
    path = titled(tmp_path / "a.safetensors", "A")
    title_of(worker, path)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert title_of(worker, path) == "A"


def test_a_file_that_takes_all_memory_ends_its_reader_not_its_neighbours(tmp_path: Path) -> None:
    small = "from gpumodels_tui.catalogue import header_worker as it; it.MEMORY_LIMIT_BYTES = 64 << 20; it.main()"
    worker = HeaderWorker((sys.executable, "-c", small))
    bomb = tmp_path / "bomb.safetensors"
    entries = ",".join(f'"t{number}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for number in range(200_000))
    bomb.write_bytes(framed(b"{" + entries.encode() + b"}"))
    with pytest.raises(UnreadableError, match=r"its reader ended while reading it: memory allocation of \d+ bytes failed"):
        worker.read(str(bomb), ".safetensors")
    assert title_of(worker, titled(tmp_path / "a.safetensors", "A")) == "A"
    worker.close()


def test_a_giant_metadata_value_arrives_cut(worker: HeaderWorker, tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.safetensors", metadata={"comment": "x" * 10_000_000, "modelspec.title": "A"})
    header = worker.read(str(path), ".safetensors")
    assert header is not None
    assert header.metadata["modelspec.title"] == "A"
    assert len(header.metadata["comment"]) < 2_000


def test_a_large_sparse_file_opens_under_the_memory_limit(worker: HeaderWorker, tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    size = 40 * 1024**3
    header = {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    path.write_bytes(framed(json.dumps(header).encode()))
    os.truncate(path, path.stat().st_size + size)
    read = worker.read(str(path), ".safetensors")
    assert read is not None
    assert read.dtypes == {"uint8": size}


def test_a_worker_that_cannot_start_says_why_and_blames_no_file(tmp_path: Path) -> None:
    worker = HeaderWorker((sys.executable, "-c", "import a_package_that_is_not_there"))
    with pytest.raises(NoWorkerError, match="No module named 'a_package_that_is_not_there'"):
        worker.read(str(titled(tmp_path / "a.safetensors", "A")), ".safetensors")
    worker.close()


def test_a_program_that_is_not_there_is_said_too(tmp_path: Path) -> None:
    worker = HeaderWorker((str(tmp_path / "python"),))
    with pytest.raises(NoWorkerError, match="No such file"):
        worker.read(str(tmp_path), ".safetensors")


def test_the_current_directory_is_not_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('hostile')")
    (tmp_path / "gpumodels_tui.py").write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    worker = HeaderWorker()
    assert title_of(worker, titled(tmp_path / "a.safetensors", "A")) == "A"
    worker.close()


def test_closing_ends_the_process_and_nothing_is_read_after_it(worker: HeaderWorker, tmp_path: Path) -> None:
    path = titled(tmp_path / "a.safetensors", "A")
    title_of(worker, path)
    process = psutil.Process(worker.pid)
    worker.close()
    assert not process.is_running()
    with pytest.raises(NoWorkerError):
        title_of(worker, path)


def test_the_worker_ends_with_a_viewer_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from gpumodels_tui.catalogue.header_reader import HeaderWorker\n"
        "worker = HeaderWorker()\n"
        "worker.read(sys.argv[1], '.safetensors')\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    path = titled(tmp_path / "a.safetensors", "A")
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as viewer:
        assert viewer.stdout is not None
        pid = int(viewer.stdout.readline())
        viewer.kill()
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker outlived its viewer"
        time.sleep(0.01)
