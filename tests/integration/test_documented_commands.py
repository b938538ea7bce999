"""Every command line of the viewer in the README and the documents of options and metrics is run on a real file, in a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.writer import SnapshotWriter
from snapshots import GIB, a_model, a_process, a_snapshot, an_identity, published
from test_documents import ROOT, in_code, lines_of_blocks

DOCUMENTS: Final = [ROOT / "README.md", ROOT / "docs" / "options.md", ROOT / "docs" / "metrics.md"]

COMMANDS: Final = frozenset({"metrics", "config", "completion"})
"""The commands that are run here; others have their own tests."""

ELSEWHERE: Final = frozenset({"--follow", "--history", "--replay"})
"""What runs until it is stopped, or reads what another program kept: run in the tests of `streaming` and `recording`."""

BEGINNINGS: Final = ("gpumodels-tui", "eval ", "source ", "watch ", "COLUMNS=")


def documented() -> Iterator[str]:
    """The lines that have the program in them, as one types them."""
    for document in DOCUMENTS:
        for line in (*lines_of_blocks(document), *in_code(document.read_text(encoding="utf-8"))):
            _, program, rest = line.partition("gpumodels-tui")
            words = rest.replace(")", " ").split()
            ours = not words or words[0] in COMMANDS or (words[0].startswith(("-", "|")) and words[0] not in ELSEWHERE)
            if program and ours and line.startswith(BEGINNINGS) and rest[:1] in ("", " "):
                yield line


LINES: Final = sorted(set(documented()))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, with the program on the path and a process's file in a directory that the environment names."""
    directory = tmp_path / "sidecars"
    directory.mkdir(mode=0o700)
    program = tmp_path / "bin" / "gpumodels-tui"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gpumodels_tui "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GPUMODELS_DIR", str(directory))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GPUMODELS_TUI_METRICS_LISTEN", "127.0.0.1:0")
    monkeypatch.chdir(tmp_path)
    identity = an_identity()
    snapshot = a_snapshot(a_model("wan", 2 * GIB), process=a_process(pid=identity.pid))
    writer: SnapshotWriter = published(directory, snapshot, identity)
    yield tmp_path
    writer.abandon()


def as_run(line: str, place: Path) -> str:
    """The line with nothing of this machine in it: any free port, and files in this folder."""
    line = line.replace("/run/", f"{place}/").replace(":9477", ":0").replace("FILE", "metrics")
    return line.replace("--user ada", f"--user {os.geteuid()}")


def test_there_are_lines_of_each_kind() -> None:
    assert {"gpumodels-tui --once", "gpumodels-tui config init", "gpumodels-tui metrics"} <= set(LINES)
    assert any(line.startswith("eval") for line in LINES)
    assert any(line.startswith("watch") for line in LINES)


@pytest.mark.parametrize("line", LINES)
def test_the_line_does_what_it_is_documented_for(line: str, place: Path) -> None:
    command = as_run(line, place)
    if "metrics" in command and "--textfile" not in command:
        serves_until_it_is_told_to_end(command)
        return
    program = shlex.split(command)[0]
    shell = ["bash", "-c"]
    if program == "watch":
        command = "COLUMNS=60 LINES=20 gpumodels-tui --once"  # what it sets for the command that it runs again and again
    elif program == "COLUMNS=76":
        command = command.removesuffix(" | mail")
    elif program == "source":
        shell = [a_shell("fish"), "--no-config", "-c"]
    elif program == "eval" and "zsh" in command:
        shell, command = [a_shell("zsh"), "-f", "-c"], f"autoload -U compinit; compinit -u -D; {command}"
    done = subprocess.run([*shell, command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), command
    if " --" in command and not {"--version", "--textfile", "--help"} & set(shlex.split(command)):
        assert "wan" in done.stdout
    if "--textfile" in command:
        assert "gpumodels_models 1.0" in (place / "metrics.prom").read_text()


def a_shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def serves_until_it_is_told_to_end(command: str) -> None:
    with subprocess.Popen(["bash", "-c", f"exec {command}"], stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stderr is not None
            assert "serving metrics on " in child.stderr.readline()
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0
        finally:
            child.kill()
