"""The command `gpumodels-tui completion`: prints what makes a shell complete options and commands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpumodels_tui.printing import write

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources

FOLDER: Final = Path(__file__).parents[1] / "shells"

FILES: Final = {"bash": "gpumodels-tui.bash", "zsh": "_gpumodels-tui", "fish": "gpumodels-tui.fish"}
"""By shell; `make shell-files` makes them from the parser, and wheels also install them where the shells look."""


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Print the file of this shell. Returns the exit code."""
    write((FOLDER / FILES[arguments.shell]).read_text(encoding="utf-8"))
    return 0
