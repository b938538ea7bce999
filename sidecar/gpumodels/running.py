"""`gpumodels run script.py …`: runs the script as Python itself would, with the sidecar beside it."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import gpumodels


def run(command: Sequence[str]) -> None:
    """Run `script.py arguments…` or `-m module arguments…` as `__main__`. Its exceptions and its exit are passed on.

    Raises:
        FileNotFoundError: there is no such script.
    """
    if command[0] == "-m":
        if len(command) < 2:
            raise FileNotFoundError("no module named after -m")
        sys.argv = list(command[1:])
        sys.path[0] = str(Path.cwd())
        gpumodels.start()
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        return
    script = Path(command[0])
    if not script.exists():
        raise FileNotFoundError(f"no such script: {script}")
    sys.argv = list(command)
    sys.path[0] = str(script.resolve().parent)
    gpumodels.start()
    runpy.run_path(str(script), run_name="__main__")
