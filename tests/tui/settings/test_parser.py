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


def test_only_the_commands_that_are_named_get_their_options() -> None:
    def options(words: list[str] | None, command: str) -> set[str]:
        below = parser(words)._subparsers._group_actions[0].choices[command]  # type: ignore[union-attr,index]
        return set(below._option_string_actions) - {"-h", "--help"}

    assert options(["--once"], "metrics") == options(["doctor"], "metrics") == set()
    assert options(["--dir", "metrics", "metrics"], "metrics") == options(None, "metrics") > {"--listen"}


@pytest.mark.parametrize("words", [["no-such-command"], ["--nonsense"], ["metrics", "--nonsense"], ["--help"], ["why", "--help"]])
def test_what_is_said_does_not_depend_on_which_options_were_made(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for chosen in (parser(), parser(words)):
        with pytest.raises(SystemExit):
            chosen.parse_args(words)
        said.append(capsys.readouterr())
    assert said[0] == said[1]


def test_the_help_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = []
    for columns in ("60", "80", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        lines.append(parser().format_help().count("\n"))
    assert lines[0] > lines[1] > lines[2]
