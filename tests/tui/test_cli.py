from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumodels_shared.codec import encode
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui import cli
from snapshots import GIB, WAN, a_model, a_snapshot, published


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for sidecars' files that the environment names; nothing else of this machine is looked at."""
    chosen = tmp_path / "sidecars"
    chosen.mkdir(mode=0o700)
    monkeypatch.setenv("GPUMODELS_DIR", str(chosen))
    monkeypatch.delenv("GPUMODELS_MODELS", raising=False)
    return chosen


@pytest.fixture
def wan(directory: Path) -> Iterator[SnapshotWriter]:
    writer = published(directory, a_snapshot(a_model(WAN, 2 * GIB)))
    yield writer
    writer.abandon()


def test_without_a_terminal_the_table_is_printed(wan: SnapshotWriter, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    printed = capsys.readouterr()
    assert f"{WAN} (checkpoint, 2.0 GB, 145 layers)" in printed.out
    assert printed.err == ""


def test_json_is_one_document(wan: SnapshotWriter, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["processes"][0]["models"][0]["name"] == WAN


def test_warnings_go_to_stderr_a_line_each_and_hide_nothing(
    wan: SnapshotWriter, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "1-1-empty.gpm").touch()
    (directory / "1-1-garbage.gpm").write_bytes(b"\x1b[31m" * 1000)
    assert cli.main(["--once"]) == 0
    printed = capsys.readouterr()
    assert WAN in printed.out
    assert "warning" not in printed.out
    assert printed.err.splitlines() == [
        f"gpumodels-tui: warning: {directory}/1-1-empty.gpm: empty file",
        f"gpumodels-tui: warning: {directory}/1-1-garbage.gpm: not a gpumodels file (wrong magic)",
    ]


@pytest.mark.parametrize("arguments", [[], ["--once"], ["--json"]])
def test_nothing_to_show_is_1_and_one_line_that_says_where_was_looked_and_what_to_do(
    arguments: list[str], directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(directory) in line
    assert "gpumodels.start()" in line


def test_a_directory_that_is_not_there_is_named_in_that_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--dir", str(tmp_path / "nowhere")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/nowhere (no such directory (yet))" in line


def test_flags_stand_above_the_environment(tmp_path: Path, wan: SnapshotWriter, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    writer = published(other, a_snapshot(a_model("flux")))
    assert cli.main(["--dir", str(other)]) == 0
    printed = capsys.readouterr().out
    assert "flux" in printed
    assert WAN not in printed
    writer.abandon()


def test_several_directories_are_looked_through(tmp_path: Path, wan: SnapshotWriter, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    writer = published(other, a_snapshot(a_model("flux")))
    assert cli.main(["--dir", str(other), "--dir", str(wan.path.parent)]) == 0
    printed = capsys.readouterr().out
    assert "flux" in printed
    assert WAN in printed
    writer.abandon()


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--once", "--json"], ["--dir"], ["file"], ["--on"]])
def test_bad_arguments_are_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().out == ""


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("gpumodels-tui ")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpumodels_tui", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["--once"], ["--json"], ["--json", "--pretty"], ["--csv"], ["--once", "--name", "wan", "--min-bytes", "1GB", "--user", "0"]],
)
def test_one_look_loads_neither_torch_nor_numpy_nor_a_screen(arguments: list[str], wan: SnapshotWriter, tmp_path: Path) -> None:
    wan.publish(encode(a_snapshot(a_model(WAN, files=[tmp_path / "missing.safetensors"]))))
    heavy = {"torch", "numpy", "textual", "watchdog", "rich", "pynvml", "platformdirs"}
    assert loaded(heavy, *arguments) == []


@pytest.mark.slow
@pytest.mark.parametrize("output", ["--once", "--json", "--csv"])
def test_one_look_without_model_files_imports_nothing_that_only_other_commands_need(output: str, wan: SnapshotWriter) -> None:
    others = {"subprocess", "asyncio", "logging", "email", "socket", "sqlite3", "multiprocessing", "importlib.metadata"}
    others |= {"secrets", "random", "tempfile", "shutil", "lzma", "bz2", "gpumodels_tui.headers.header_reader"}
    others |= {"msgspec", "dataclasses", "inspect", "typing_extensions"}
    assert loaded(others, output, "--dir", str(wan.path.parent)) == []


def loaded(modules: set[str], *arguments: str) -> list[str]:
    """Those of the modules that this command line imports, which shows `WAN`."""
    program = (
        "import sys; from gpumodels_tui.cli import main; code = main(sys.argv[1:]); "
        f"print(code, *sorted({modules} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert WAN in done.stdout
    code, *found = done.stderr.splitlines()[-1].split()
    assert code == "0"
    return found


@pytest.mark.slow
def test_importing_the_application_loads_neither_torch_nor_numpy() -> None:
    program = "import sys, gpumodels_tui.app; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(directory: Path) -> None:
    models = [a_model(f"model {number:04}", 2 * GIB) for number in range(3000)]
    writer = published(directory, a_snapshot(*models))
    command = f"{sys.executable} -m gpumodels_tui --once | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    writer.abandon()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", ["--once", "--json", "", "--version"])
@pytest.mark.parametrize(
    ("redirection", "reason"),
    [(">&-", "it is closed"), (">/dev/full", "no space left on device"), (">&- 2>&-", ""), (">/dev/full 2>/dev/full", "")],
)
def test_an_output_that_takes_nothing_is_1_and_one_line(directory: Path, arguments: str, redirection: str, reason: str) -> None:
    """Python 3.11 ended in a traceback, or with 120 while it flushed its buffers at the exit."""
    writer = published(directory, a_snapshot(a_model(WAN, 2 * GIB)))
    command = f"{sys.executable} -m gpumodels_tui {arguments} {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    writer.abandon()
    assert done.returncode == 1
    expected = f"gpumodels-tui: error: can't write to stdout: {reason}; send the output to a file or program that takes it\n"
    assert done.stderr == (expected if reason else "")


@pytest.mark.slow
def test_help_that_does_not_arrive_is_1_and_without_a_stdout_it_is_on_stderr() -> None:
    full, closed = (
        subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
        for command in (f"{sys.executable} -m gpumodels_tui --help {redirection}" for redirection in (">/dev/full", ">&-"))
    )
    assert (full.returncode, full.stderr.count("\n")) == (1, 1)
    assert (closed.returncode, closed.stderr.startswith("usage: ")) == (0, True)


class BadOutput(io.StringIO):
    """A stdout that fails like this when it is written to."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), 1, "file too large"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), 1, "input/output error"),
        (BlockingIOError(errno.EAGAIN, "write could not complete without blocking"), 1, "write could not complete"),
        (ValueError("I/O operation on closed file."), 1, "closed file"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, ""),
    ],
)
def test_whatever_fails_while_printing_is_said_in_one_line(
    wan: SnapshotWriter,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    reason: str,
) -> None:
    monkeypatch.setattr(sys, "stdout", BadOutput(error))
    assert cli.main(["--once"]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == (1 if reason else 0)
    assert reason in said


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "", "often", "3601"])
def test_an_interval_that_makes_no_sense_is_2(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([f"--interval={seconds}"])
    assert ended.value.code == 2
    assert "is not a number of seconds from 0.1 to 3600" in capsys.readouterr().err


@pytest.mark.slow
def test_names_print_in_a_locale_that_cannot_write_them(directory: Path) -> None:
    writer = published(directory, a_snapshot(a_model("名前")))
    done = run("--once", PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0
    assert "\\u540d\\u524d (checkpoint" in done.stdout
    writer.abandon()


SIDECAR = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from snapshots import a_model, a_process, a_snapshot, an_identity, published
identity = an_identity()
writer = published(Path(sys.argv[1]), a_snapshot(a_model("in-child"), process=a_process(pid=identity.pid)), identity, 100)
print(identity.pid, flush=True)
while sys.stdin.readline().strip() == "beat":
    writer.beat()
    print("beaten", flush=True)
writer.close()
"""


@pytest.fixture
def child(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that publishes once, beats when told to, and says goodbye when its input ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", SIDECAR, str(directory), str(Path(__file__).parents[1])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.readline()
    with child:
        yield child
        child.kill()


def states() -> list[str]:
    found = run("--json")
    return [process["state"] for process in json.loads(found.stdout)["processes"]]


@pytest.mark.slow
def test_a_silent_child_is_stalled_a_killed_one_dead_and_its_last_snapshot_stays(child: subprocess.Popen[str]) -> None:
    assert any(states() == ["stalled"] for _ in range(20)), "three of its beats pass while we look"
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=30)
    assert states() == ["dead"]
    assert "in-child (checkpoint, 2.0 GB, 145 layers)" in run("--once").stdout


@pytest.mark.slow
def test_a_child_that_said_goodbye_is_nothing_to_show(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    child.wait(timeout=30)
    assert states() == ["exited"]
    assert run("--once").returncode == 1
