"""Gets the earlier build that some benchmarks compare this one with."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

BEFORE: Final = "e581971"
"""The last commit whose sidecar wrapped torch's functions and scanned, compared and named models in one go, and whose viewer
compared each model with each file."""
ROOT: Final = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def builds(before: str = BEFORE) -> Iterator[dict[str, Path]]:
    """The root directories of `today`'s build and, if this clone has that commit, of the one `before`."""
    roots = {"today": ROOT}
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", before, "sidecar", "shared", "tui", "tests"], capture_output=True, check=False
    )
    with tempfile.TemporaryDirectory() as folder:
        if packed.returncode == 0:
            with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
                archive.extractall(folder, filter="data")
            roots["before"] = Path(folder)
        else:
            print(f"commit {before} is not in this clone: no comparison with it")
        yield roots


def run_before(part: str) -> None:
    """Print the results of the earlier build's own benchmark of that name."""
    with builds() as roots:
        root = roots.get("before")
        if root is None:
            return
        paths = os.pathsep.join(str(root / place) for place in ("tests", "sidecar", "shared", "tui"))
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks", part]
        with subprocess.Popen(
            command, cwd=root, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if line.strip() and not line.startswith(("==", "python ")):
                    print(f"before: {line}", end="", flush=True)
