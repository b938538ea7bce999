"""The command `gpumodels-tui metrics`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Serve metrics, or write them once. Returns the exit code."""
    from gpumodels_tui.commands.chosen_filters import chosen_filters
    from gpumodels_tui.commands.versions import version
    from gpumodels_tui.recording.ring import ring_directory
    from gpumodels_tui.service.metric_families import Choices
    from gpumodels_tui.service.metrics_service import serve, write_textfile
    from gpumodels_tui.settings.directories import as_path

    choices = Choices(chosen_filters(arguments), arguments.top, arguments.with_pid, arguments.with_paths)
    if arguments.textfile is not None:
        return write_textfile(sources, version(), choices, as_path(arguments.textfile))
    address = arguments.listen if arguments.unix is None else as_path(arguments.unix)
    return serve(sources, version(), choices, address, ring_directory() if arguments.history else None)
