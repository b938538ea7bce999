"""`--replay` and `--history` on a real terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gpumodels_tui import cli
from gpumodels_tui.recording.ring import ring_directory
from recordings import a_recording, holding
from terminals import Terminal

MOMENTS = [(0, holding("a")), (10, holding("a", "b")), (20, holding("b"))]


def test_without_a_terminal_the_events_are_printed(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = a_recording(tmp_path / "r", MOMENTS)
    path.write_bytes(path.read_bytes()[:-10])
    assert cli.main(["--replay", str(path)]) == 0
    printed = capfdbinary.readouterr()
    assert printed.out.count(b"\n") == 4
    assert printed.err == f"gpumodels-tui: warning: {path}: its end is missing; it is shown up to there\n".encode()


def test_the_ring_of_another_service_is_found_by_its_state_directory(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "history").mkdir(mode=0o700)
    a_recording(tmp_path / "history" / "1-1.ndjson.gz", MOMENTS)
    for directory in (tmp_path, tmp_path / "history"):
        assert cli.main(["--history-of", str(directory)]) == 0
        assert capfdbinary.readouterr().out.count(b"\n") == 4


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40)])
def test_a_recording_is_played_on_a_terminal(tmp_path: Path, columns: int, lines: int) -> None:
    path = a_recording(tmp_path / "r.ndjson.gz", MOMENTS)
    command = ["env", "TZ=UTC", sys.executable, "-m", "gpumodels_tui", "--replay", str(path)]
    with Terminal(tmp_path, command, columns, lines) as terminal:
        terminal.wait_for("REPLAY  2026-05-28 20:26:4", "1×", "Space Pause", " a ")
        terminal.press("Space")
        terminal.wait_for("paused")
        terminal.press(".")
        terminal.wait_for("20:26:5", " b ")
        terminal.press("t")
        terminal.wait_for("Timeline", "REPLAY", "loaded")
        terminal.press("?")
        terminal.wait_for("REPLAY: Keys", "Play slower or faster")
        terminal.press("q")
        assert terminal.exit_code() == 0


@pytest.mark.slow
def test_the_history_is_shown_on_a_terminal_with_its_timeline(tmp_path: Path) -> None:
    directory = ring_directory({"STATE_DIRECTORY": str(tmp_path)})
    directory.mkdir(mode=0o700)
    a_recording(directory / "1-1.ndjson.gz", MOMENTS)
    assert "STATE_DIRECTORY" not in os.environ
    command = ["env", "TZ=UTC", f"STATE_DIRECTORY={tmp_path}", sys.executable, "-m", "gpumodels_tui", "--history"]
    with Terminal(tmp_path, command) as terminal:
        terminal.wait_for("Timeline", "REPLAY  2026-05-28 20:27:00  at its end", "unloaded")
        terminal.press("q")
        assert terminal.exit_code() == 0
