"""The table of options and commands holds together."""

from __future__ import annotations

import importlib
import inspect

import pytest

from gpumodels_tui.settings.option import Command
from gpumodels_tui.settings.table import COMMANDS, OPTIONS, THEMES, all_options, options_of
from gpumodels_tui.theme import THEMES as LOOKS


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_commands_function_is_there(command: Command) -> None:
    module, _, function = command.run.partition(":")
    assert list(inspect.signature(getattr(importlib.import_module(module), function)).parameters) == ["sources", "arguments"]


def test_no_two_options_have_a_name_in_common_where_both_can_be_given() -> None:
    for command in COMMANDS:
        names = [option.destination for option in (*OPTIONS, *command.options)] + [one.name for one in command.arguments]
        assert len(set(names)) == len(names), command.name
    assert {command.name for command in COMMANDS}.isdisjoint(option.name for option in OPTIONS), "a section is no key"


def test_no_two_options_have_a_variable_in_common() -> None:
    names = [option.in_environment for option in all_options()]
    assert len(set(names)) == len(names)


def test_a_command_that_reads_takes_the_options_that_say_what() -> None:
    metrics = next(command for command in COMMANDS if command.name == "metrics")
    assert {"dir", "models", "listen"} <= {option.name for option in options_of(metrics)}


def test_the_themes_are_those_that_there_are() -> None:
    assert list(THEMES) == list(LOOKS)
