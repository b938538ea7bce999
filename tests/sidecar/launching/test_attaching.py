"""Attaching to a live process: a real Python 3.14 where there is one, and stand-ins for what only the kernel refuses."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from gpumodels.__main__ import main
from gpumodels.launching import attaching
from gpumodels.launching.attaching import AttachError, Target, attach, remote_exec
from gpumodels_shared.places import snapshot_files
from launched import a_folder_with_torch, environment
from processes import wait_until

PYTHON: Final = os.environ.get("GPUMODELS_TEST_PYTHON_3_14") or shutil.which("python3.14") or ""
needs_314 = pytest.mark.skipif(not PYTHON, reason="there is no python3.14 here; GPUMODELS_TEST_PYTHON_3_14 names one elsewhere")
LIVE: Final = """
import sys, time
import torch
print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + 60
while time.monotonic() < until:
    time.sleep(0.01)
"""


def a_proc(folder: Path, *, name: str = "python3.14", command: bytes = b"", given: bytes = b"") -> Path:
    """What the kernel shows of a process 77 that runs a Python of ours."""
    own = folder / "proc" / "77"
    own.mkdir(parents=True)
    executable = folder / name
    executable.write_text("#!/bin/sh\necho 3 14\n")
    executable.chmod(0o755)
    (own / "exe").symlink_to(executable)
    (own / "root").symlink_to("/")
    (own / "status").write_text(f"Name:\tpython\nUid:\t0\t{os.geteuid()}\t0\t0\nGid:\t0\t{os.getegid()}\t0\t0\n")
    (own / "environ").write_bytes(given)
    (own / "cmdline").write_bytes(command or b"python\0train.py\0")
    (own / "maps").write_text("7f00-7f01 r--p 0 08:01 1   /usr/lib/libc.so.6\n")
    return folder / "proc"


def no_execution(target: Target, script: Path) -> None:
    raise AssertionError("nothing may be run there")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of our own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def says(line: str) -> None:
    raise AssertionError(line)


@pytest.mark.parametrize(
    ("process", "why"),
    [
        ({"name": "python3.13"}, "process 77 runs Python 3.13; only from 3.14 on"),
        ({"name": "python3.9"}, "process 77 runs Python 3.9; only from 3.14 on"),
        ({"name": "nginx"}, r"process 77 \(nginx\) is no Python"),
        ({"given": b"A=1\0PYTHON_DISABLE_REMOTE_DEBUG=1\0"}, r"\(PYTHON_DISABLE_REMOTE_DEBUG is set\)"),
        ({"command": b"python\0-X\0disable-remote-debug\0x.py\0"}, r"\(-X disable-remote-debug\)"),
        ({"command": b"python\0-Xdisable-remote-debug\0x.py\0"}, r"\(-X disable-remote-debug\)"),
    ],
)
def test_where_it_cannot_be_done_the_line_says_why_and_what_to_do_instead(
    process: dict[str, object], why: str, tmp_path: Path, temporary: Path
) -> None:
    proc = a_proc(tmp_path, **process)  # type: ignore[arg-type]
    with pytest.raises(AttachError, match=why) as refused:
        attach(77, 1, says, no_execution, proc)
    assert "gpumodels run COMMAND" in str(refused.value)
    assert list(temporary.iterdir()) == []


def test_a_process_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AttachError, match="there is no process 78 here"):
        attach(78, 1, says, no_execution, a_proc(tmp_path))
    with pytest.raises(AttachError, match="no /proc"):
        attach(77, 1, says, no_execution, tmp_path / "nowhere")


@pytest.mark.parametrize("given", [b"PYTHON_DISABLE_REMOTE_DEBUG=\0", b"", b"A=PYTHON_DISABLE_REMOTE_DEBUG=1\0"])
def test_an_unset_variable_disables_nothing(given: bytes, tmp_path: Path) -> None:
    assert Target.of(77, a_proc(tmp_path, given=given)).refusal(tmp_path / "proc") is None


def test_the_version_is_told_by_the_name_the_library_or_the_executable_itself(tmp_path: Path) -> None:
    proc = a_proc(tmp_path, name="python")
    assert Target.of(77, proc).version == (3, 14)  # asked
    (proc / "77" / "maps").write_text("7f00-7f01 r--p 0 08:01 1   /usr/lib/libpython3.12.so.1.0\n")
    assert Target.of(77, proc).version == (3, 12)
    (tmp_path / "python").chmod(0o777)  # others may have written it: it isn't run
    (proc / "77" / "maps").write_text("")
    assert Target.of(77, proc).version is None


def run_there(target: Target, script: Path) -> None:
    """A stand-in for the live process: another one, which runs the script at once."""
    private = script.parent.stat()
    assert (stat.S_IMODE(private.st_mode), stat.S_IMODE(script.stat().st_mode)) == (0o700, 0o600)
    assert private.st_uid == script.stat().st_uid == target.uid
    source = f"import torch; exec(open({str(script)!r}).read()); import gpumodels; gpumodels.stop()"
    folder = a_folder_with_torch(script.parent.parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=folder, env=environment(folder), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_the_script_starts_the_sidecar_and_nothing_of_it_is_left(tmp_path: Path, temporary: Path) -> None:
    told = attach(77, 30, says, run_there, a_proc(tmp_path))
    assert told == "the sidecar runs in process 77; what was loaded before was not seen, so some names may stay unknown"
    assert list(temporary.iterdir()) == []
    assert len(snapshot_files(tmp_path / "gpm")) == 1


def answers(word: str) -> Callable[[Target, Path], None]:
    def execute(target: Target, script: Path) -> None:
        (script.parent / "answer").write_text(word)

    return execute


def test_each_answer_is_put_into_words(tmp_path: Path, temporary: Path) -> None:
    proc = a_proc(tmp_path)
    assert attach(77, 1, says, answers("running"), proc) == "the sidecar was running in process 77 already"
    with pytest.raises(AttachError, match="GPUMODELS=0 is set in process 77"):
        attach(77, 1, says, answers("off"), proc)
    with pytest.raises(AttachError, match=r"did not start in process 77 .*failed: OSError"):
        attach(77, 1, says, answers("failed: OSError\x1b[2J"), proc)
    assert list(temporary.iterdir()) == []


def test_a_process_that_reaches_no_safe_point_in_time_starts_the_sidecar_when_it_does(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "SAY_SECONDS", 0.01)
    said: list[str] = []
    with pytest.raises(AttachError, match=r"has reached no safe point in 0\.1 s"):
        attach(77, 0.1, said.append, lambda target, script: None, a_proc(tmp_path))
    assert said == ["waiting until the main thread of process 77 runs Python code, for 0.1 s at most"]
    (folder,) = temporary.iterdir()
    run_there(Target.of(77, tmp_path / "proc"), folder / "script.py")
    assert list(temporary.iterdir()) == []  # the script has removed it


def test_a_process_that_ends_meanwhile_is_said(tmp_path: Path, temporary: Path) -> None:
    proc = a_proc(tmp_path)
    with pytest.raises(AttachError, match="process 77 has ended"):
        attach(77, 5, says, lambda target, script: shutil.rmtree(proc / "77"), proc)


def test_what_the_kernel_refuses_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    proc = a_proc(tmp_path)
    executable = tmp_path / "python3.14"
    for complaint, why in (
        ("PermissionError: [Errno 1] Operation not permitted", "run: sudo gpumodels attach 77"),
        ("RuntimeError: Remote debugging is not enabled in the remote process", "does not allow it"),
        ("RuntimeError: strange", r"could not be attached to \(RuntimeError: strange\)"),
    ):
        executable.write_text(f"#!/bin/sh\necho '{complaint}' >&2\nexit 1\n")
        with pytest.raises(AttachError, match=why):
            attach(77, 1, says, remote_exec, proc)
    executable.chmod(0o777)
    with pytest.raises(AttachError, match="may not be run from here"):
        attach(77, 1, says, remote_exec, proc)
    assert list(temporary.iterdir()) == []


def test_the_command_prints_one_line_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attach", str(os.getpid())]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"gpumodels: process \d+ runs Python 3\.\d+; only from 3\.14 on .*\n", printed.err)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python 3.14 that has imported torch, and waits for a line."""
    (a_folder_with_torch(tmp_path) / "live.py").write_text(LIVE)
    with subprocess.Popen(
        [PYTHON, "live.py"],
        cwd=tmp_path,
        env=environment(tmp_path, PYTHONPATH=""),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "torch ready\n"
        yield child
        child.kill()


@needs_314
@pytest.mark.slow
def test_a_live_python_314_gets_the_sidecar_from_this_one(
    live: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert live.stdin is not None
    live.stdin.write("\n")
    live.stdin.flush()
    assert main(["attach", str(live.pid)]) == 0
    assert capsys.readouterr().out.startswith(f"the sidecar runs in process {live.pid}; ")
    wait_until(lambda: len(snapshot_files(tmp_path / "gpm")) == 1)
    assert main(["attach", str(live.pid)]) == 0
    assert capsys.readouterr().out == f"the sidecar was running in process {live.pid} already\n"
    live.kill()
    assert live.stdout is not None
    assert live.stdout.read() == ""  # nothing was printed there


@needs_314
@pytest.mark.slow
def test_a_live_python_314_that_waits_starts_it_afterwards(
    live: subprocess.Popen[str], tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attach", str(live.pid), "--timeout", "1.5"]) == 1
    printed = capsys.readouterr().err
    assert "waiting until the main thread" in printed
    assert "has reached no safe point in 1.5 s" in printed
    assert live.stdin is not None
    live.stdin.write("\n")
    live.stdin.flush()
    wait_until(lambda: (tmp_path / "gpm").exists() and len(snapshot_files(tmp_path / "gpm")) == 1)
    wait_until(lambda: list(temporary.iterdir()) == [])


@needs_314
@pytest.mark.slow
def test_a_live_python_314_that_disabled_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [PYTHON, "-X", "disable-remote-debug", "-c", "print('ready', flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert main(["attach", str(child.pid)]) == 1
        assert "(-X disable-remote-debug)" in capsys.readouterr().err
        child.communicate("\n")
