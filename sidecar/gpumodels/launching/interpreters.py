"""Finds out which Python a command starts, and why the hook wouldn't be seen there. Runs nothing of the user's."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpumodels.launching.wrappers import unwrapped
from gpumodels.support.never_pickled import never_pickled

OLDEST_PYTHON: Final = (3, 10)
IGNORING: Final = {"I": "-I", "E": "-E", "S": "-S"}
"""Options with which Python reads no PYTHONPATH, or runs no sitecustomize."""
WITH_VALUE: Final = "WX"
LAST: Final = "cm"
"""What follows these options is the program's."""
LONGEST_SHEBANG: Final = 256
MOST_SHEBANGS: Final = 4
ANSWER_SECONDS: Final = 10.0
_PYTHON: Final = re.compile(r"python[\d.]*t?")


@never_pickled
@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that a command starts, as far as can be seen before it is started."""

    path: str
    options: str
    """Those of one letter that come before the program, without their values: `uIB`."""


def interpreter_of(command: Sequence[str], path: str | None) -> Interpreter | None:
    """The Python that runs this command, by its name or its `#!` lines; None for all else, as for a shell script.

    Args:
        command: the command and its arguments.
        path: where commands are searched for, as in PATH.
    """
    words = list(command)
    for _ in range(MOST_SHEBANGS):
        words = unwrapped(words).words
        if not words:
            return None
        found = shutil.which(words[0], path=path)
        if found is None:
            return None
        if _PYTHON.fullmatch(Path(found).name):
            return Interpreter(found, _options(words[1:]))
        shebang = _shebang(Path(found))
        if not shebang:
            return None
        words = [*shebang, found, *words[1:]]
    return None


def why_unseen(command: Sequence[str], path: str | None) -> str | None:
    """Why this command's Python won't run the hook, in words for the user; None if it will, or if that can't be known."""
    wrapped = unwrapped(command)
    if wrapped.why_unseen is not None:
        return wrapped.why_unseen
    found = shutil.which(wrapped.words[0], path=path) if wrapped.words else None
    if found is not None and os.stat(found).st_mode & (stat.S_ISUID | stat.S_ISGID):
        return f"{wrapped.words[0]} runs with other rights (setuid), and passes no PYTHONPATH on"
    interpreter = interpreter_of(command, path)
    if interpreter is None:
        return None
    name = Path(interpreter.path).name
    for letter, option in IGNORING.items():
        if letter in interpreter.options:
            return f"{name} {option} {'runs no sitecustomize' if letter == 'S' else 'ignores PYTHONPATH'}"
    if interpreter.path == sys.executable:
        return None
    version = _version(interpreter.path)
    if version is not None and version < OLDEST_PYTHON:
        return f"{name} is Python {'.'.join(map(str, version))}, and gpumodels needs {'.'.join(map(str, OLDEST_PYTHON))} or newer"
    return None


def _options(arguments: Sequence[str]) -> str:
    letters = ""
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-") or argument.startswith("--") or argument == "-":
            break
        for position, letter in enumerate(argument[1:], 1):
            letters += letter
            if letter in LAST:
                return letters
            if letter in WITH_VALUE:
                if position == len(argument) - 1:
                    next(rest, None)
                break
    return letters


def _shebang(file: Path) -> list[str]:
    """The words of a script's first line: the interpreter, and the rest as a single argument, as the kernel passes it."""
    try:
        with file.open("rb") as stream:
            first = stream.read(LONGEST_SHEBANG)
    except OSError:
        return []
    if not first.startswith(b"#!"):
        return []
    return os.fsdecode(first[2:].split(b"\n", 1)[0].strip()).split(None, 1)


def _version(python: str) -> tuple[int, int] | None:
    """What this Python says it is, without running what is installed in it."""
    try:
        told = subprocess.run(
            [python, "-E", "-S", "-c", "import sys; print('%d %d' % sys.version_info[:2])"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
        major, minor = told.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def environment_as_started(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment that this process was started with: Python itself sets LC_CTYPE where the locale is C."""
    known = dict(environment)
    try:
        started = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return known
    if known.get("LC_CTYPE") == "C.UTF-8" and not any(entry.startswith(b"LC_CTYPE=") for entry in started):
        del known["LC_CTYPE"]
    return known
