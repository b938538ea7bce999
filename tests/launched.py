"""Builders for tests of `gpumodels run`: a stand-in for torch, and processes that say whether the sidecar runs in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
OURS: Final = os.pathsep.join(str(ROOT / package) for package in ("sidecar", "shared"))
SAYS: Final = """
import sys, threading
def served():
    return "gpumodels" in [thread.name for thread in threading.enumerate()]
"""


def a_folder_with_torch(folder: Path) -> Path:
    """A folder to start scripts in, where `import torch` takes no time, and `says` tells whether the sidecar runs."""
    (folder / "torch.py").write_text("print('torch', end=' ')\n")
    (folder / "says.py").write_text(SAYS)
    return folder


def environment(folder: Path, **more: str) -> dict[str, str]:
    """That of a user who has set nothing: a PYTHONPATH, snapshot files in `gpm`."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("GPUMODELS", "_GPUMODELS"))}
    return {**plain, "GPUMODELS_DIR": str(folder / "gpm"), "PYTHONPATH": OURS, **more}


def gpumodels(
    folder: Path, *arguments: str, given: str | None = None, options: Sequence[str] = (), more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`gpumodels` with these arguments, in this folder, to its end."""
    return subprocess.run(
        [sys.executable, *options, "-m", "gpumodels", *arguments],
        cwd=folder,
        env=environment(folder, **(more or {})),
        input=given,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
