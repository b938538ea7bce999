"""What runs without a command: the screens where there are any, else what is printed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gpumodels_tui import cli, starting


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_a_terminal_that_cannot_draw_gets_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main([]) == 1
    assert "can't draw screens (TERM=dumb)" in capsys.readouterr().err


def test_the_screens_start_with_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, object]] = []

    def run_app(sources: object, **chosen: object) -> int:
        started.append(chosen)
        return 0

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("GPUMODELS_TUI_THEME", "dark")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(starting, "run_app", run_app)
    assert cli.main(["--interval", "2", "--ascii"]) == 0
    assert started == [{"theme_name": "dark", "ascii_only": True, "interval_seconds": 2.0}]
    assert cli.main(["--once"]) == 1
    assert len(started) == 1
