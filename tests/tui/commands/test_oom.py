"""The command `oom`, on records and on processes that ran out of memory."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from gpumodels_shared.cleaning import clean_dead_files
from gpumodels_shared.oom_records import encode_record, record_files, record_name, write_record
from gpumodels_shared.schema import OutOfMemory
from gpumodels_tui import cli
from processes import run_python, running_python, wait_until
from snapshots import a_snapshot

AT_NS = 1_780_000_000_000_000_000
RECORD = encode_record(a_snapshot().process, OutOfMemory(AT_NS, "cuda:0", message="CUDA out of memory."))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path / "own"))
    (tmp_path / "own").mkdir(mode=0o700)
    return tmp_path / "own"


def test_without_a_record_it_says_so(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["oom"]) == 1
    assert "no failed allocation is on record" in capsys.readouterr().err


def test_the_newest_is_printed_and_earlier_ones_are_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = write_record(directory, record_name(AT_NS - 10**9, 7), RECORD)
    new = write_record(directory, record_name(AT_NS, 7), RECORD)
    assert cli.main(["oom"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Out of memory on cuda:0, 2026-05-28 20:26:40 UTC\n")
    assert f"record     {new}" in out
    assert f"earlier    {old}" in out
    assert cli.main(["oom", str(old)]) == 0
    assert f"record     {old}" in capsys.readouterr().out


def test_a_damaged_record_is_passed_over_unless_it_was_asked_for(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(directory, record_name(AT_NS - 10**9, 7), RECORD)
    damaged = write_record(directory, record_name(AT_NS, 7), b"{")
    assert cli.main(["oom"]) == 0
    assert "warning: " in capsys.readouterr().err
    assert cli.main(["oom", str(damaged)]) == 1
    assert f"error: {damaged}: not a record" in capsys.readouterr().err
    assert cli.main(["oom", str(directory / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


HOST = """
import sys, time
import gpumodels, torch
gpumodels.start(interval=0.1)
model = torch.nn.Linear(512, 512)
from gpumodels.sidecar import published_names
while not published_names():
    time.sleep(0.05)
how = sys.argv[1]
def fail():
    torch.empty(1 << 50, dtype=torch.uint8)
if how == "main":
    fail()
try:
    fail()
except RuntimeError as error:
    sys.last_value = error  # as IPython does, which goes on
print("failed", flush=True)
sys.stdin.read()
"""


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["oom"]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_an_error_that_ends_the_program_is_on_record(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = run_python(HOST, "main")
    assert ended.returncode == 1
    assert ended.stderr.rstrip().splitlines()[-1].startswith("RuntimeError: "), "the program's own error stays the last word"
    text = printed(capsys)
    assert "Out of memory on host memory" in text
    assert "requested  1.0 PB" in text
    assert "Linear" in text
    assert cli.main(["--json"]) in (0, 1)
    (process,) = json.loads(capsys.readouterr().out)["processes"]
    (failure,) = process["out_of_memory"]
    assert (failure["requested_bytes"], failure["device"], failure["noticed_by"]) == (1 << 50, "cpu", "exception")


@pytest.fixture
def killed(directory: Path) -> Iterator[Popen[str]]:
    with running_python(HOST, "notebook") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "failed\n"
        wait_until(lambda: record_files(directory, {os.geteuid()})[0] != [])
        child.send_signal(signal.SIGKILL)
        child.wait()
        yield child


@pytest.mark.slow
def test_a_record_survives_its_process_and_the_cleaning_of_its_file(
    directory: Path, killed: Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert clean_dead_files(directory, kept_seconds=0, max_dead_files=0) == 1
    text = printed(capsys)
    assert f"pid {killed.pid}" in text
    assert "RuntimeError" not in text
    assert "error      [enforce fail at" in text
