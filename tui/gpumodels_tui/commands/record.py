"""The command `gpumodels-tui record`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Record until stopped. Returns the exit code."""
    from gpumodels_tui.recording.record import record
    from gpumodels_tui.recording.ring import ring_directory
    from gpumodels_tui.settings.directories import as_path

    path = None if arguments.file is None else as_path(arguments.file)
    ring = ring_directory() if arguments.history else None
    return record(sources, path, arguments.every, arguments.limit, ring)
