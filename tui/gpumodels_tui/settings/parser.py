"""The argument parser, made from the table. Only what was given is in the arguments: `resolving` adds everything else."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any, Final

from gpumodels_tui.printing import columns
from gpumodels_tui.settings.kinds import read
from gpumodels_tui.settings.option import Argument, Option
from gpumodels_tui.settings.table import COMMANDS, options_of

PROGRAM: Final = "gpumodels-tui"

DESCRIPTION: Final = "Which models are in which GPU's memory. Shows the processes in which `gpumodels.start()` runs."

EPILOG: Final = (
    "Every option can also be set in the environment and in config.toml: see `gpumodels-tui config show`. "
    "NO_COLOR is respected. If stdout is not a terminal, --once is used."
)


FALLBACK_COLUMNS: Final = 80
"""Of the help, where nobody says how wide the terminal is."""


def parser(words: Iterable[str] | None = None) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        words: The command line, if it is known: commands that it doesn't name don't get their options, as it can't reach them.
    """
    named = None if words is None else frozenset(words)
    top = argparse.ArgumentParser(
        prog=PROGRAM, description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False, formatter_class=_formatter
    )
    _add_options(top, options_of(None))
    top.add_argument("--version", action="store_true", help="print the version, and what it was built with")
    commands = top.add_subparsers(
        prog=PROGRAM,  # which argparse would work out by formatting the help
        dest="command",
        metavar="COMMAND",
        title="commands",
        description="Without one: the screens.",
    )
    for command in COMMANDS:
        below = commands.add_parser(
            command.name,
            help=command.help,
            description=command.description,
            epilog=command.epilog or None,
            allow_abbrev=False,
            formatter_class=_formatter,
        )
        if named is not None and command.name not in named:
            continue
        _add_options(below, options_of(command))
        for argument in command.arguments:
            _add_argument(below, argument)
    return top


def _formatter(prog: str) -> argparse.HelpFormatter:
    """What argparse makes for each option as well; left to itself, it imports the compressors for the terminal's width."""
    return argparse.HelpFormatter(prog, width=(columns() or FALLBACK_COLUMNS) - 2)


def _add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    groups: dict[str, Any] = {}
    for option in options:
        place: Any = parser
        if group := option.excludes or (option.name if option.shorthands else ""):
            if group not in groups:
                groups[group] = parser.add_mutually_exclusive_group()
            place = groups[group]
        for shorthand in option.shorthands:
            place.add_argument(
                f"--{shorthand.name}",
                action="store_const",
                const=shorthand.value,
                dest=option.destination,
                default=argparse.SUPPRESS,
                help=_help(shorthand.help),
            )
        action = place.add_argument(f"--{option.name}", **_described(option))
        action.help = _help(option.help)  # a switch adds its default to it in some versions of Python


def _described(option: Option) -> dict[str, Any]:
    common = {"dest": option.destination, "default": argparse.SUPPRESS}
    if option.kind.is_switch:
        return {**common, "action": argparse.BooleanOptionalAction}
    if option.repeats:
        return {**common, "action": "append", "type": _reader(option), "metavar": option.metavar or option.kind.metavar}
    if option.kind.choices:
        return {**common, "choices": option.kind.choices, **({"metavar": option.metavar} if option.metavar else {})}
    return {**common, "type": _reader(option), "metavar": option.metavar or option.kind.metavar}


def _help(text: str) -> str:
    return text.replace("%", "%%")


def _reader(option: Option) -> Callable[[str], object]:
    """Reads what follows the flag; for an option that repeats, a text may hold several values."""

    def value(text: str) -> object:
        try:
            if option.repeats:
                parts = option.split(text) if option.separator == "," else [text]
                return tuple(read(option.kind, part) for part in parts)
            return read(option.kind, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return value


def _add_argument(parser: argparse.ArgumentParser, argument: Argument) -> None:
    described: dict[str, Any] = {"help": _help(argument.help)}
    if argument.kind.choices:
        described["choices"] = argument.kind.choices
    else:
        described["metavar"] = argument.kind.metavar
    if argument.is_optional:
        described |= {"nargs": "?", "default": argument.default}
    parser.add_argument(argument.name, **described)
