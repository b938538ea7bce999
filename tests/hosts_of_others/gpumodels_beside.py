"""A pytest plugin: the sidecar runs in the tests' own process, from before anything is collected to the end.

At the end it must have run: alive, with snapshots published. What it counted as failures of its own is told beside that, to the
file that GPUMODELS_BESIDE names.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

import gpumodels
import gpumodels.sidecar
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """The suite's own conftest, and torch, come later."""
    gpumodels.start()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Told before it is stopped: a suite that stops or kills it has not run beside it."""
    sidecar = gpumodels.sidecar._current
    report = {
        "alive": any(thread.name == "gpumodels" for thread in threading.enumerate()),
        "published": _published(Path(os.environ["GPUMODELS_DIR"])),
        "failures": None if sidecar is None else sidecar.failures.count,
    }
    Path(os.environ["GPUMODELS_BESIDE"]).write_text(json.dumps(report))
    gpumodels.stop()
    if not (report["alive"] and report["published"]):
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


def _published(directory: Path) -> int:
    """How many snapshots this process has published."""
    for name in snapshot_files(directory):
        if name.startswith(f"{os.getpid()}-"):
            reader = SnapshotReader(directory / name, os.geteuid())
            try:
                return reader.heartbeat().last_seq
            finally:
                reader.close()
    return 0
