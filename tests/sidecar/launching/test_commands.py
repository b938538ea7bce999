"""What the commands print, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels.__main__ import main
from gpumodels.launching.enabling import MODULE, NAME, Environment


def test_on_windows_a_line_says_that_it_is_not_supported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert main(["enable"]) == 1
    assert "Windows is not supported" in capsys.readouterr().err


def test_the_commands_say_what_they_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Environment(tmp_path, (3, 12))
    monkeypatch.setattr(Environment, "own", lambda: own)

    def said(command: str) -> tuple[int, list[str], str]:
        code = main([command])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    module, line = own.folder / MODULE, own.folder / f"{NAME}.pth"
    place = f"{own.folder} (Python 3.12)"
    assert said("status") == (1, [], f"gpumodels: {place} is not enabled; run: gpumodels enable\n")
    assert said("disable") == (0, [f"{place} is not enabled"], "")
    code, printed, error = said("enable")
    assert (code, printed[:2], error) == (0, [f"wrote {module}", f"wrote {line}"], "")
    assert said("status") == (0, [str(module), str(line), f"{place} is enabled"], "")
    module.unlink()
    assert said("status") == (1, [str(line)], f"gpumodels: {MODULE} is missing or was changed; run: gpumodels enable\n")
    assert said("disable") == (0, [f"removed {line}"], "")
    module.write_text("x")
    assert said("enable")[2] == f"gpumodels: {module} is not as gpumodels enable wrote it; look at it, and remove it yourself\n"
