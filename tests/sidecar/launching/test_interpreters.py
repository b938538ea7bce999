from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import pytest

from gpumodels.launching.interpreters import Interpreter, environment_as_started, interpreter_of, why_unseen

PYTHON: Final = sys.executable


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ([PYTHON, "train.py", "-I"], ""),
        ([PYTHON, "-uB", "train.py"], "uB"),
        ([PYTHON, "-W", "-I", "-Xdev", "-E", "train.py"], "WXE"),
        ([PYTHON, "-m", "torch.distributed.run", "-S"], "m"),
        ([PYTHON, "-Ic", "print()", "-E"], "Ic"),
        ([PYTHON, "-", "-I"], ""),
        ([PYTHON, "--help-all", "-I"], ""),
        (["env", "A=1", "B=2", PYTHON, "-I"], "I"),
        (["env", "-S", PYTHON, "-E", "x.py"], "E"),
        (["nohup", "nice", "-n", "5", PYTHON, "-I", "x.py"], "I"),
        (["timeout", "--signal", "INT", "20", "env", "A=1", PYTHON, "-S", "x.py"], "S"),
    ],
)
def test_the_options_before_the_program_are_pythons(command: list[str], options: str) -> None:
    assert interpreter_of(command, os.environ["PATH"]) == Interpreter(PYTHON, options)


@pytest.mark.parametrize(
    ("line", "options"), [("{}", ""), ("{} -I", "I"), ("/usr/bin/env -S {} -uE", "uE"), ("/usr/bin/env {}", "")]
)
def test_a_script_is_run_by_what_its_first_line_names(line: str, options: str, tmp_path: Path) -> None:
    script = tmp_path / "serve"
    script.write_text(f"#!{line.format(PYTHON)}\nprint()\n")
    script.chmod(0o755)
    assert interpreter_of([str(script), "-S"], None) == Interpreter(PYTHON, options)
    assert interpreter_of(["serve"], str(tmp_path)) == Interpreter(PYTHON, options)


@pytest.mark.parametrize(
    "command", [["sh", "-c", "python -I"], ["no-such-command"], ["env"], ["nice"], ["timeout", "5"], ["./circle"]]
)
def test_what_is_no_python_for_certain_is_not_judged(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("circle").write_text("#!./circle\n")
    Path("circle").chmod(0o755)
    assert interpreter_of(command, os.environ["PATH"]) is None
    assert why_unseen(command, os.environ["PATH"]) is None


@pytest.mark.parametrize(
    ("version", "is_old"), [("2 7", True), ("3 9", True), ("3 10", False), ("4 0", False), ("no idea", False)]
)
def test_a_python_that_is_too_old_says_so_itself(version: str, is_old: bool, tmp_path: Path) -> None:
    other = tmp_path / "python3"
    other.write_text(f"#!/bin/sh\necho {version}\n")
    other.chmod(0o755)
    why = f"python3 is Python {version.replace(' ', '.')}, and gpumodels needs 3.10 or newer" if is_old else None
    assert why_unseen([str(other), "x.py"], None) == why


def test_a_command_with_other_rights_passes_no_environment_on(tmp_path: Path) -> None:
    other = tmp_path / "sudo"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o4755)
    assert why_unseen(["nice", "sudo", "python"], str(tmp_path)) == why_unseen(["sudo", "python"], str(tmp_path))
    assert why_unseen(["sudo", "python"], str(tmp_path)) == "sudo runs with other rights (setuid), and passes no PYTHONPATH on"


def test_a_locale_that_python_set_itself_is_not_the_users() -> None:
    started = any(entry.startswith(b"LC_CTYPE=") for entry in Path("/proc/self/environ").read_bytes().split(b"\0"))
    assert ("LC_CTYPE" in environment_as_started({"LC_CTYPE": "C.UTF-8"})) == started
    assert environment_as_started({"LC_CTYPE": "de_DE.UTF-8", "A": "1"}) == {"LC_CTYPE": "de_DE.UTF-8", "A": "1"}
