"""Starts the screens on a recording: `--replay FILE`, and `--history` for the last 24 hours."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.recording.lines import RecordingError
from gpumodels_tui.recording.reading import Recording, read_recording
from gpumodels_tui.recording.ring import DIRECTORY, ring_directory, ring_files
from gpumodels_tui.settings.directories import as_path
from gpumodels_tui.view.filters import Filters


def replay(arguments: argparse.Namespace, filters: Filters) -> int:
    """Show the recording that the arguments name. Without a terminal, print its events as `--follow` would have.

    Returns:
        The exit code: 0; 1 with a line on stderr if there is none, or it is no recording.
    """
    is_history = not arguments.replay
    try:
        recording = _history(arguments.history_of or "") if is_history else read_recording([as_path(arguments.replay)])
    except RecordingError as error:
        return _say(f"error: {error}")
    except (OSError, MemoryError) as error:
        return _say(f"error: {error}")
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return _print_events(recording)
    from gpumodels_tui.plain_terminal import needs_ascii
    from gpumodels_tui.replaying.player import Player
    from gpumodels_tui.replaying.replay_app import ReplayApp
    from gpumodels_tui.starting import run_screens

    player = Player(recording, at_its_end=is_history)
    title = "the last 24 hours" if is_history else Path(arguments.replay).name
    return run_screens(
        player,
        lambda _, view, options: ReplayApp(player, safe_text(title, 60), view=view, starts_with_timeline=is_history, **options),
        theme_name=arguments.theme,
        ascii_only=arguments.ascii or needs_ascii(os.environ),
        filters=filters,
    )


def _history(directory: str) -> Recording:
    """The ring's recording; of another service if a directory is given, which may be that service's state directory.

    Raises:
        RecordingError: there is none.
    """
    chosen = as_path(directory) if directory else ring_directory()
    if directory and (chosen / DIRECTORY).is_dir():
        chosen = chosen / DIRECTORY
    return read_recording(ring_files(chosen))


def _print_events(recording: Recording) -> int:
    from gpumodels_tui.streaming.event_lines import EventLines
    from gpumodels_tui.streaming.recorded_lines import recorded_lines

    for problem in recording.problems:
        _say(f"warning: {problem}")
    for line in recorded_lines(recording, EventLines()):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    return 0


def _say(line: str) -> int:
    if sys.stderr is not None:
        sys.stderr.write(f"gpumodels-tui: {safe_text(line, 600)}\n")
    return 1
