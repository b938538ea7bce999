"""Decides each option's value. Precedence is decided only here: flag, environment, user's file, machine's file, default."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gpumodels_shared.records import Record
from gpumodels_tui.settings.config_file import ConfigFile, read_config
from gpumodels_tui.settings.directories import config_paths
from gpumodels_tui.settings.kinds import read
from gpumodels_tui.settings.option import Option
from gpumodels_tui.settings.table import all_options

FLAG: Final = "flag"
DEFAULT: Final = "default"


class Setting(Record):
    """The value of one option, and where it is from."""

    option: Option
    value: object
    origin: str
    """`flag`, the environment variable's name, a file and line, or `default`."""


class Settings(Record):
    """The values of all options."""

    settings: Mapping[tuple[str, ...], Setting]
    """By `Option.key`."""
    files: tuple[ConfigFile, ...]
    """The user's and the machine's, whether they are there or not."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the files, a line each."""
        return tuple(problem for file in self.files for problem in file.problems)

    def arguments(self, given: argparse.Namespace) -> argparse.Namespace:
        """The arguments as a command gets them: a value for every option of its own and of all."""
        complete = argparse.Namespace(**vars(given))
        for setting in self.settings.values():
            if setting.option.command in ("", given.command):
                setattr(complete, setting.option.destination, setting.value)
        return complete


class VariableError(ValueError):
    """An environment variable has a value that can't be; the text names it."""


def resolve(
    given: argparse.Namespace,
    environment: Mapping[str, str],
    files: Sequence[ConfigFile] | None = None,
    options: Iterable[Option] | None = None,
) -> Settings:
    """The value of every option.

    Args:
        given: What was given on the command line.
        environment: The environment.
        files: The configuration files, the strongest first; None for the user's and the machine's.
        options: None for all.

    Raises:
        VariableError: a variable has a value that can't be.
    """
    known = tuple(all_options() if options is None else options)
    if files is None:
        files = [read_config(path, known) for path in config_paths()]
    layers = [_flags(known, given), _variables(known, environment), *(_stated(known, file) for file in files)]
    found: dict[tuple[str, ...], Setting] = {}
    for layer in layers:
        # Of options that exclude each other, one in a stronger place hides all in weaker ones.
        decided = {(setting.option.command, setting.option.excludes) for setting in found.values() if setting.option.excludes}
        for setting in layer:
            if (setting.option.command, setting.option.excludes) not in decided:
                found.setdefault(setting.option.key, setting)
    for option in known:
        found.setdefault(option.key, Setting(option, option.unset, DEFAULT))
    return Settings(found, tuple(files))


def _flags(options: Iterable[Option], given: argparse.Namespace) -> list[Setting]:
    found = []
    for option in options:
        if option.command in ("", given.command) and hasattr(given, option.destination):
            value = getattr(given, option.destination)
            if option.repeats:
                value = tuple(one for values in value for one in values)
            found.append(Setting(option, value, FLAG))
    return found


def _variables(options: Iterable[Option], environment: Mapping[str, str]) -> list[Setting]:
    found = []
    for option in options:
        name = option.in_environment
        if not (text := environment.get(name, "")):
            continue
        try:
            if option.repeats:
                value: object = tuple(read(option.kind, part) for part in option.split(text))
                if not value:
                    continue
            else:
                value = read(option.kind, text)
        except ValueError as error:
            raise VariableError(f"{name}: {error}") from error
        found.append(Setting(option, value, name))
    return found


def _stated(options: Iterable[Option], file: ConfigFile) -> list[Setting]:
    return [
        Setting(option, file.values[option.key], f"{file.path}:{file.lines[option.key]}")
        for option in options
        if option.key in file.values
    ]
