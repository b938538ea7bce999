"""The command line, as the table has it."""

from __future__ import annotations

import pytest

from gpumodels_tui.settings.parser import parser
from gpumodels_tui.settings.table import COMMANDS, OPTIONS


def test_only_what_was_given_is_in_the_arguments() -> None:
    assert vars(parser().parse_args([])) == {"version": False, "command": None}
    assert vars(parser().parse_args(["--dir", "/a", "--no-ascii", "metrics", "--top", "3"])) == {
        "version": False,
        "command": "metrics",
        "dir": [("/a",)],
        "ascii": False,
        "top": 3,
    }


def test_a_shorthand_is_one_value_of_its_option() -> None:
    assert parser().parse_args(["--json"]).output == parser().parse_args(["--output", "json"]).output == "json"


@pytest.mark.parametrize("command", [None, *(command.name for command in COMMANDS)])
def test_the_help_tells_every_option_without_a_word_about_defaults_that_are_none(command: str | None) -> None:
    below = parser()
    if command is not None:
        below = below._subparsers._group_actions[0].choices[command]  # type: ignore[union-attr,index]
    text = below.format_help()
    assert "SUPPRESS" not in text
    if command is None:
        assert all(f"--{option.name}" in text for option in OPTIONS)


@pytest.mark.parametrize(
    "arguments", [["--theme", "x"], ["metrics", "--top", "-1"], ["metrics", "--unix", "a", "--textfile", "b"]]
)
def test_values_that_cannot_be_are_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""
