"""The options of `record`, and those that look back."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_tui import cli
from gpumodels_tui.settings.parser import parser


def test_a_file_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").write_text("mine")
    assert cli.main(["record", str(tmp_path / "there"), "--no-history"]) == 1
    assert capsys.readouterr().err.startswith(f"gpumodels-tui: error: {tmp_path}/there: is there already")


@pytest.mark.parametrize(
    "arguments",
    [["record", "x", "--every", "0"], ["record", "x", "--limit", "much"], ["--follow", "--json"], ["--follow", "--state", "nan"]],
)
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parser().parse_args(arguments)
    assert left.value.code == 2


def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--follow", "--since", "soon"]) == 2
    assert "'soon' is no time: 10m" in capsys.readouterr().err
