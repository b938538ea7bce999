"""The files of this folder, by what they are for, with this installation's program in them where they start it."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path, PurePosixPath
from typing import Final

PROGRAM: Final = "@gpumodels-tui@"
"""Stands in the files for the command of this installation."""

UNITS: Final = frozenset({".service", ".timer", ".conf"})


def shipped_files(purpose: str) -> dict[PurePosixPath, str]:
    """The texts of all files for a purpose, which is the name of a folder here, by their paths in it and in their order."""
    folder = Path(__file__).parent / purpose
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    command = installed_command()
    return {
        PurePosixPath(path.relative_to(folder).as_posix()): path.read_text(encoding="utf-8").replace(
            PROGRAM, " ".join(map(unit_word if path.suffix in UNITS else shlex.quote, command))
        )
        for path in paths
    }


def installed_command() -> list[str]:
    """What starts `gpumodels-tui`: the script beside this Python, else the one on PATH, else this Python with the module."""
    beside = Path(sys.executable).with_name("gpumodels-tui")
    if beside.is_file():
        return [str(beside)]
    found = shutil.which("gpumodels-tui")
    return [str(Path(found).absolute())] if found is not None else [sys.executable, "-m", "gpumodels_tui"]


def unit_word(word: str) -> str:
    """The word as systemd reads it in `ExecStart=`."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if escaped == word and not any(one.isspace() or one == "'" for one in word) else f'"{escaped}"'
