"""What is made from the table of options: the table in docs/options.md, the shells' completions and the man page.

`make shell-files` writes them; a test finds those that are not current.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gpumodels_tui.commands.completion import FILES, FOLDER
from gpumodels_tui.settings.option import Command, Option
from gpumodels_tui.settings.parser import DESCRIPTION, PROGRAM, parser
from gpumodels_tui.settings.table import COMMANDS, OPTIONS, all_options, options_of

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = ROOT / "docs" / "options.md"
MAN_PAGE: Final = FOLDER / f"{PROGRAM}.1"

TABLE_BEGINS: Final = "| flag | variable | in a file | |\n|---|---|---|---|\n"


def files() -> Iterator[tuple[Path, str]]:
    """Each file with what must be in it."""
    before, begins, after = DOCUMENT.read_text(encoding="utf-8").partition(TABLE_BEGINS)
    rest = re.sub(r"\A(\|.*\n)*", "", after)
    yield DOCUMENT, before + begins + "".join(map(_row, all_options())) + rest
    yield MAN_PAGE, man_page()
    for shell, name in FILES.items():
        yield FOLDER / name, completion(shell)


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for path, content in files():
        path.write_text(content, encoding="utf-8")


def _row(option: Option) -> str:
    flags = [f"--{option.name}", *(f"--{one.name}" for one in option.shorthands)]
    shown = ", ".join(f"`{flag}`" for flag in flags)
    if option.command:
        shown = f"`{option.command} --{option.name}`"
    key = ".".join(option.key)
    return f"| {shown} | `{option.in_environment}` | `{key}` | {_help(option)} |\n"


# Completions, by shtab.


def completion(shell: str) -> str:
    """What makes the shell complete options, commands, choices and paths."""
    shtab: Any = importlib.import_module("shtab")
    top = parser()
    _say_what_completes(top, tuple(options_of(None)), None, shtab)
    for command in COMMANDS:
        _say_what_completes(_parser_of(top, command), tuple(options_of(command)), command, shtab)
    text: str = shtab.complete(top, shell=shell)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _say_what_completes(below: argparse.ArgumentParser, options: tuple[Option, ...], command: Command | None, shtab: Any) -> None:
    known = {option.destination: option.kind for option in options}
    known |= {argument.name: argument.kind for argument in (command.arguments if command is not None else ())}
    for action in below._actions:
        kind = known.get(action.dest)
        if kind is None or action.nargs == 0:
            continue
        if kind.completes:
            action.complete = shtab.FILE if kind.completes == "file" else shtab.DIRECTORY  # type: ignore[attr-defined]
        elif kind.choices and not action.choices:
            action.choices = kind.choices


def _parser_of(top: argparse.ArgumentParser, command: Command) -> argparse.ArgumentParser:
    commands = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    found: Mapping[str, argparse.ArgumentParser] = commands.choices
    return found[command.name]


# The man page.


def man_page() -> str:
    """The manual of the command, in roff."""
    version = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
    return "".join(
        f"{line}\n"
        for line in [
            f'.TH GPUMODELS\\-TUI 1 "" "gpumodels {version}" "User Commands"',
            ".SH NAME",
            f"{_roff(PROGRAM)} \\- show which models are in which GPU's memory",
            ".SH SYNOPSIS",
            f".B {_roff(PROGRAM)}\n[\\fIOPTION\\fR]... [\\fICOMMAND\\fR [\\fIOPTION\\fR]...]",
            ".SH DESCRIPTION",
            _roff(DESCRIPTION),
            "Without a command and on a terminal, it shows screens; \\fB?\\fR there explains them. If stdout is not a terminal, "
            "\\fB\\-\\-once\\fR is used.",
            ".SH OPTIONS",
            *_options(OPTIONS),
            *_entry("\\fB\\-\\-version\\fR", "print the version, and what it was built with"),
            *_entry("\\fB\\-h\\fR, \\fB\\-\\-help\\fR", "print a summary"),
            ".SH COMMANDS",
            *(line for command in COMMANDS for line in _command(command)),
            ".SH ENVIRONMENT",
            "Every option can be given in the environment; a flag is stronger.",
            *(line for option in all_options() for line in _entry(f"\\fB{_roff(option.in_environment)}\\fR", _flag_of(option))),
            *_entry("\\fBNO_COLOR\\fR", "no colours"),
            ".SH FILES",
            "Every option can be given in a file in TOML, under the flag's name, and a command's in a section of its name. "
            "The environment is stronger, and the user's file is stronger than the machine's.",
            *_entry("\\fI~/.config/gpumodels/config.toml\\fR", "the user's settings"),
            *_entry("\\fI/etc/gpumodels/config.toml\\fR", "the machine's settings"),
            ".SH EXIT STATUS",
            *_entry("0", "it did what was asked for"),
            *_entry("1", "there is nothing to show, or it can't start; stderr says why"),
            *_entry("2", "the arguments or variables are bad"),
        ]
    )


def _command(command: Command) -> Iterator[str]:
    arguments = "".join(f" \\fI{_roff(argument.name.upper())}\\fR" for argument in command.arguments)
    yield f".SS {_roff(PROGRAM)} {_roff(command.name)}{arguments}"
    yield _roff(command.description)
    for argument in command.arguments:
        yield from _entry(f"\\fI{_roff(argument.name.upper())}\\fR", argument.help)
    yield from _options(command.options)
    if command.filters:
        yield ".PP\nThe options that choose what is read and shown can be given here as well."
    if command.epilog:
        yield f".PP\n{_roff(command.epilog)}"


def _options(options: Sequence[Option]) -> Iterator[str]:
    for option in options:
        for shorthand in option.shorthands:
            yield from _entry(f"\\fB\\-\\-{_roff(shorthand.name)}\\fR", shorthand.help)
        metavar = "" if option.kind.is_switch else f" \\fI{_roff(option.metavar or option.kind.metavar or 'WORD')}\\fR"
        name = f"\\fB\\-\\-{_roff(option.name)}\\fR"
        off = f", \\fB\\-\\-no\\-{_roff(option.name)}\\fR" if option.kind.is_switch else ""
        help = _help(option)
        yield from _entry(f"{name}{off}{metavar}", help)


def _help(option: Option) -> str:
    """What it does, with its choices if these aren't told there."""
    if option.kind.is_switch or all(one in option.help for one in option.kind.choices):
        return option.help
    return f"{option.help} (one of {', '.join(option.kind.choices)})"


def _entry(head: str, text: str) -> Iterator[str]:
    yield f".TP\n{head}\n{_roff(text) if not text.startswith(chr(92)) else text}"


def _flag_of(option: Option) -> str:
    return f"\\fB\\-\\-{_roff(option.name)}\\fR" + (f" of \\fB{_roff(option.command)}\\fR" if option.command else "")


def _roff(text: str) -> str:
    """The text with nothing in it that roff takes for a request or an escape."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
