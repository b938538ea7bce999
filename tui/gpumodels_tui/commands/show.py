"""Without a command: the screens, or what is printed once."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from gpumodels_tui.printing import say, write

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Show the screens if stdout is a terminal and nothing else was asked for. Returns the exit code."""
    if arguments.output != "screens" or not sys.stdout.isatty():
        return print_once(sources, arguments.output)
    if os.environ.get("TERM", "dumb") == "dumb":
        say("this terminal can't draw screens (TERM=dumb); using --once")
        return print_once(sources, "once")
    from gpumodels_tui.plain_terminal import needs_ascii
    from gpumodels_tui.starting import run_app

    return run_app(
        sources,
        theme_name=arguments.theme,
        ascii_only=arguments.ascii or needs_ascii(os.environ),
        interval_seconds=arguments.interval,
    )


def print_once(sources: Sources, output: str) -> int:
    """Read everything once, and print it. Returns the exit code: 1 if there is nothing to show."""
    from gpumodels_shared.safe_text import safe_text
    from gpumodels_tui import json_output
    from gpumodels_tui.oneshot import glance, table
    from gpumodels_tui.sources.feed import NO_SUCH_DIRECTORY
    from gpumodels_tui.view.builder import build_view

    seen = glance(sources)
    view = build_view(seen.feed, seen.hardware, seen.catalogue)
    if output == "json":
        write(json_output.text(seen))
    elif view.processes:
        write(table(view, seen.taken_at_ns))
    missing = {one.path for one in seen.feed.unreadable if one.reason == NO_SUCH_DIRECTORY}
    for warning in view.warnings:
        if view.processes or not any(warning.startswith(safe_text(f"{path}: ")) for path in missing):
            say(f"warning: {warning}")
    if view.processes:
        return 0
    where = ", ".join(
        safe_text(str(directory)) + (f" ({NO_SUCH_DIRECTORY})" if directory in missing else "")
        for directory in seen.feed.directories
    )
    say(
        f"error: no running sidecar's file in {where}; start one by `import gpumodels; gpumodels.start()` in a process, "
        "or by `python -m gpumodels run script.py`, or try `python -m gpumodels demo`"
    )
    return 1
