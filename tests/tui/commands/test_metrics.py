"""The command `metrics` hands on what was chosen; what it does is tested with the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_tui import cli


def test_the_metrics_are_written_to_a_file_with_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GPUMODELS_TUI_METRICS_WITH_PID", "1")
    assert cli.main(["metrics", "--textfile", str(tmp_path / "metrics.prom")]) == 0
    assert "gpumodels_up 1.0" in (tmp_path / "metrics.prom").read_text()


def test_the_service_does_not_start_with_a_mistake_in_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    config = tmp_path / "gpumodels" / "config.toml"
    config.parent.mkdir()
    config.write_text("[metrics]\nlisten = 9477\ntop = 'all'\n")
    assert cli.main(["metrics", "--textfile", str(tmp_path / "metrics.prom")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{config}: line 3: metrics.top must be a whole number from 0" in line
    assert not (tmp_path / "metrics.prom").exists()
