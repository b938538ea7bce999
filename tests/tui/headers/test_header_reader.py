"""Tests of the viewer's end of the header worker: a real process, and what is done when it hangs, dies or never starts."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.headers.header_reader import WANTED_AT_ONCE, HeaderWorker, NoWorkerError, TimedOutError
from gpumodels_tui.headers.headers import Request, UnreadableError, Wanted, frame
from model_files import framed, titled, write_model
from processes import wait_until


def title_of(worker: HeaderWorker, path: Path) -> str:
    header = worker.read(str(path), ".safetensors").header
    assert header is not None
    return header.metadata["modelspec.title"]


def test_no_file_no_process(worker: HeaderWorker) -> None:
    assert worker.pid is None


def test_a_reader_that_was_closed_before_its_first_file_starts_no_process(tmp_path: Path) -> None:
    worker = HeaderWorker((str(tmp_path / "python"),))
    worker.close()
    for _ in range(2):
        with pytest.raises(NoWorkerError, match="stopped"):
            worker.read(str(tmp_path), ".safetensors")
    worker.close()


@pytest.mark.slow
def test_files_are_read_by_one_modest_process_without_a_terminal(worker: HeaderWorker, tmp_path: Path) -> None:
    assert title_of(worker, titled(tmp_path / "a.safetensors", "A")) == "A"
    process = psutil.Process(worker.pid)
    assert title_of(worker, titled(tmp_path / "b.safetensors", "B")) == "B"
    assert worker.pid == process.pid
    assert process.nice() > psutil.Process().nice()
    assert os.getsid(process.pid) == process.pid


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_worker_that_died_since_the_last_file_is_no_files_fault(worker: HeaderWorker, tmp_path: Path) -> None:
    path = titled(tmp_path / "a.safetensors", "A")
    title_of(worker, path)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    assert title_of(worker, path) == "A"


def a_file_and_its_values(path: Path) -> tuple[Path, Wanted]:
    data = struct.pack("<16f", *range(16))
    path.write_bytes(framed(b'{"w":{"dtype":"F32","shape":[4,4],"data_offsets":[0,64]}}') + data)
    return path, Wanted(5, Fingerprint((TensorSample("w", "float32", (4, 4), data),), 0))


@pytest.mark.slow
def test_a_fingerprint_is_told_to_each_worker_once(worker: HeaderWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[Request] = []

    def framing(message: Request) -> bytes:
        requests.append(message)
        return frame(message)

    monkeypatch.setattr("gpumodels_tui.headers.header_reader.frame", framing)
    path, wanted = a_file_and_its_values(tmp_path / "a.safetensors")
    for _ in range(2):
        assert worker.read(str(path), ".safetensors", [wanted]).matches == (Match(1, 1),)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(worker.pid)], 10)
    for _ in range(2):
        assert worker.compare([wanted], [str(path)], ".safetensors") == (Match(1, 1),)
    assert [len(request.new_fingerprints) for request in requests[-3:]] == [
        0,
        1,
        0,
    ]  # the first of them went to the worker that was dead
    assert sum(len(request.new_fingerprints) for request in requests) == 2


@pytest.mark.slow
def test_a_worker_that_knows_too_many_fingerprints_forgets_them(
    worker: HeaderWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpumodels_tui.headers.header_reader.MAX_SENT", 2)
    path, wanted = a_file_and_its_values(tmp_path / "a.safetensors")
    for number in (1, 2, 3, 1, 2, 3):
        assert worker.compare([replace(wanted, number=number)], [str(path)], ".safetensors") == (Match(1, 1),)


@pytest.mark.slow
def test_of_more_fingerprints_than_one_request_holds_the_first_are_answered(worker: HeaderWorker, tmp_path: Path) -> None:
    path, wanted = a_file_and_its_values(tmp_path / "a.safetensors")
    many = [replace(wanted, number=number) for number in range(WANTED_AT_ONCE + 10)]
    assert worker.compare(many, [str(path)], ".safetensors") == (Match(1, 1),) * WANTED_AT_ONCE


@pytest.mark.slow
def test_a_file_that_takes_all_memory_ends_its_reader_not_its_neighbours(tmp_path: Path) -> None:
    small = "from gpumodels_tui.headers import header_worker as it; it.MEMORY_LIMIT_BYTES = 64 << 20; it.main()"
    worker = HeaderWorker((sys.executable, "-c", small))
    bomb = tmp_path / "bomb.safetensors"
    entries = ",".join(f'"t{number}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for number in range(200_000))
    bomb.write_bytes(framed(b"{" + entries.encode() + b"}"))
    with pytest.raises(
        UnreadableError, match=r"the reader process ended while reading it: memory allocation of \d+ bytes failed"
    ):
        worker.read(str(bomb), ".safetensors")
    assert title_of(worker, titled(tmp_path / "a.safetensors", "A")) == "A"
    worker.close()


@pytest.mark.slow
def test_a_giant_metadata_value_arrives_cut(worker: HeaderWorker, tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.safetensors", metadata={"comment": "x" * 10_000_000, "modelspec.title": "A"})
    header = worker.read(str(path), ".safetensors").header
    assert header is not None
    assert header.metadata["modelspec.title"] == "A"
    assert len(header.metadata["comment"]) < 2_000


@pytest.mark.slow
def test_a_large_sparse_file_opens_under_the_memory_limit(worker: HeaderWorker, tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    size = 40 * 1024**3
    header = {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    path.write_bytes(framed(json.dumps(header).encode()))
    os.truncate(path, path.stat().st_size + size)
    read = worker.read(str(path), ".safetensors").header
    assert read is not None
    assert read.dtypes == {"uint8": size}


@pytest.mark.slow
def test_a_worker_that_cannot_start_says_why_and_blames_no_file(tmp_path: Path) -> None:
    worker = HeaderWorker((sys.executable, "-c", "import a_package_that_is_not_there"))
    with pytest.raises(NoWorkerError, match="No module named 'a_package_that_is_not_there'"):
        worker.read(str(titled(tmp_path / "a.safetensors", "A")), ".safetensors")
    worker.close()


def test_a_program_that_is_not_there_is_said_too(tmp_path: Path) -> None:
    worker = HeaderWorker((str(tmp_path / "python"),))
    with pytest.raises(NoWorkerError, match="No such file"):
        worker.read(str(tmp_path), ".safetensors")


@pytest.mark.slow
def test_the_current_directory_is_not_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('hostile')")
    (tmp_path / "gpumodels_tui.py").write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    worker = HeaderWorker()
    assert title_of(worker, titled(tmp_path / "a.safetensors", "A")) == "A"
    worker.close()


@pytest.mark.slow
def test_closing_ends_the_process_and_nothing_is_read_after_it(worker: HeaderWorker, tmp_path: Path) -> None:
    path = titled(tmp_path / "a.safetensors", "A")
    title_of(worker, path)
    process = psutil.Process(worker.pid)
    worker.close()
    assert not process.is_running()
    with pytest.raises(NoWorkerError):
        title_of(worker, path)


@pytest.mark.slow
def test_the_worker_ends_with_a_viewer_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from gpumodels_tui.headers.header_reader import HeaderWorker\n"
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
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
