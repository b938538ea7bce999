"""The command `completion`."""

from __future__ import annotations

import pytest

from gpumodels_tui import cli
from gpumodels_tui.commands.completion import FILES, FOLDER


@pytest.mark.parametrize("shell", FILES)
def test_the_shells_file_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert capsys.readouterr().out == (FOLDER / FILES[shell]).read_text(encoding="utf-8")
