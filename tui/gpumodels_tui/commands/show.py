"""Without a command: the screens, or what is printed once."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from gpumodels_tui.printing import columns, say, write

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources
    from gpumodels_tui.view.filters import Filters


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Show the screens if stdout is a terminal and nothing else was asked for. Returns the exit code."""
    from gpumodels_tui.commands.chosen_filters import chosen_filters

    filters = chosen_filters(arguments)
    if arguments.replay or arguments.history_of or arguments.output == "history":
        from gpumodels_tui.replaying.replay import replay

        return replay(arguments, filters)
    if arguments.output == "follow":
        from gpumodels_tui.streaming.follow import follow

        return follow(sources, arguments.interval, arguments.since, arguments.state or None, filters)
    if arguments.output != "screens" or not sys.stdout.isatty():
        return print_once(sources, arguments.output, filters, is_pretty=arguments.pretty)
    if os.environ.get("TERM", "dumb") == "dumb":
        say("this terminal can't draw screens (TERM=dumb); using --once")
        return print_once(sources, "once", filters)
    from gpumodels_tui.plain_terminal import needs_ascii
    from gpumodels_tui.starting import run_app

    return run_app(
        sources,
        theme_name=arguments.theme,
        ascii_only=arguments.ascii or needs_ascii(os.environ),
        interval_seconds=arguments.interval,
        filters=filters,
    )


def print_once(sources: Sources, output: str, filters: Filters, *, is_pretty: bool = False) -> int:
    """Read everything once, and print it. Returns the exit code: 1 if there is nothing to show."""
    from gpumodels_shared.safe_text import safe_text
    from gpumodels_tui.oneshot import glance
    from gpumodels_tui.sources.feed import NO_SUCH_DIRECTORY
    from gpumodels_tui.view.builder import build_view
    from gpumodels_tui.view.filtering import filtered

    seen = glance(sources)
    everything = build_view(seen.feed, seen.hardware, seen.catalogue)
    view = filtered(everything, filters)
    has_something = bool(view.processes) or (output != "csv" and any(device.unattached for device in view.devices))
    if output == "json":
        from gpumodels_tui import json_output

        write(json_output.text(seen, filters, is_pretty=is_pretty))
    elif output == "csv":
        from gpumodels_tui import csv_output

        write(csv_output.text(view, seen.taken_at_ns))
    elif has_something:
        from gpumodels_tui.oneshot import table

        write(table(view, seen.taken_at_ns, columns()))
    missing = {one.path for one in seen.feed.unreadable if one.reason == NO_SUCH_DIRECTORY}
    for warning in view.warnings:
        if everything.processes or not any(warning.startswith(safe_text(f"{path}: ")) for path in missing):
            say(f"warning: {warning}")
    if view.processes or (has_something and everything.processes):
        return 0
    if everything.processes:
        devices = ", ".join(device.label for device in everything.devices)
        known = f" (known: {devices})" if not view.devices else ""
        say(f"nothing matches {view.filtered_by}{known}; without filters, there is more to see")
        return 1
    where = ", ".join(
        safe_text(str(directory)) + (f" ({NO_SUCH_DIRECTORY})" if directory in missing else "")
        for directory in seen.feed.directories
    )
    say(
        f"{'note' if has_something else 'error'}: no running sidecar's file in {where}; "
        "start one by `import gpumodels; gpumodels.start()` in a process, "
        "or by `python -m gpumodels run script.py`, or try `python -m gpumodels demo`"
    )
    return 0 if has_something else 1
