"""What runs without a command: the screens where there are any, else what is printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gpumodels_tui import cli, starting
from gpumodels_tui.view.filters import Filters
from snapshots import GIB, WAN, a_model, a_snapshot, published


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
    assert cli.main(["--interval", "2", "--ascii", "--kind", "vae,lora", "--min-bytes", "1GB"]) == 0
    filters = Filters(kinds=("vae", "lora"), min_bytes=1024**3)
    assert started == [{"theme_name": "dark", "ascii_only": True, "interval_seconds": 2.0, "filters": filters}]
    assert cli.main(["--once"]) == 1
    assert len(started) == 1


def test_what_the_filters_leave_out_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "sidecars"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("GPUMODELS_DIR", str(directory))
    writer = published(directory, a_snapshot(a_model(WAN, 2 * GIB)))
    assert cli.main(["--name", "flux", "--kind", "lora"]) == 1
    assert (
        capsys.readouterr().err == "gpumodels-tui: nothing matches kind lora, name flux; without filters, there is more to see\n"
    )
    assert cli.main(["--gpu", "7", "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["processes"] == []
    assert printed.err == "gpumodels-tui: nothing matches GPU 7 (known: host); without filters, there is more to see\n"
    assert cli.main(["--csv", "--name", "wan"]) == 0
    assert WAN in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "60")
    assert cli.main(["--once"]) == 0
    assert f"\n{WAN} (checkpoint, 2.0 GB, 145 layers)\n " in capsys.readouterr().out
    writer.abandon()


@pytest.mark.parametrize("arguments", [["--once"], ["--json"], ["--csv"]])
def test_mistakes_in_the_configuration_are_warnings_and_the_rest_counts(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "sidecars"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("GPUMODELS_DIR", str(directory))
    config = tmp_path / "gpumodels" / "config.toml"
    config.parent.mkdir()
    config.write_text("thme = 'dark'\nname = 'vae'\n")
    writer = published(directory, a_snapshot(a_model(WAN, 2 * GIB), a_model("vae", GIB, "vae")))
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert "vae" in printed.out
    assert WAN not in printed.out
    assert f"warning: {config}: line 1: thme is no option (did you mean theme?); it is ignored" in printed.err
    writer.abandon()
