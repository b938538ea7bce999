"""What an option and a command are. `table` lists all of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from gpumodels_shared.records import Record
from gpumodels_tui.settings.kinds import TEXT, Kind

PREFIX: Final = "GPUMODELS_TUI_"
"""Of environment variables, except those that the sidecar reads too."""


class Shorthand(Record):
    """A flag of its own for one value of an option: `--json` for `--output json`."""

    name: str
    value: str
    help: str


class Option(Record):
    """One option: a flag, an environment variable and a key in the configuration files, all of the same name."""

    name: str
    """`min-bytes`: the flag `--min-bytes`, the key `min-bytes`."""
    help: str
    kind: Kind = TEXT
    default: object = None
    metavar: str = ""
    """Else the kind's."""
    repeats: bool = False
    """Whether the value is a list: the flag may be given again, the key may be a list."""
    separator: str = ""
    """What stands between several values in one text: in the variable, and, if it is a comma, after the flag."""
    variable: str = ""
    """The environment variable, if it isn't named by the rule."""
    excludes: str = ""
    """A name that options have in common of which only one can be given."""
    shorthands: Sequence[Shorthand] = ()
    command: str = ""
    """The command that it belongs to; empty for those of the screens and of all commands."""

    @property
    def destination(self) -> str:
        """The attribute of the parsed arguments."""
        return self.name.replace("-", "_")

    @property
    def key(self) -> tuple[str, ...]:
        """Where it stands in a configuration file: the section, if it has one, and the name."""
        return (self.command, self.name) if self.command else (self.name,)

    @property
    def in_environment(self) -> str:
        """The name of its environment variable: `GPUMODELS_TUI_MIN_BYTES`, `GPUMODELS_TUI_METRICS_LISTEN`."""
        return self.variable or PREFIX + "_".join(self.key).replace("-", "_").upper()

    @property
    def unset(self) -> object:
        """Its value if nobody gives one."""
        return () if self.repeats and self.default is None else self.default

    def split(self, text: str) -> list[str]:
        """The values in one text."""
        parts = text.split(self.separator) if self.separator else [text]
        return [part for part in parts if part]


class Argument(Record):
    """What a command is given without a flag."""

    name: str
    help: str
    kind: Kind = TEXT
    is_optional: bool = False
    default: object = None


class Command(Record):
    """A command: `gpumodels-tui NAME`."""

    name: str
    help: str
    """A few words for the list of commands."""
    description: str
    run: str
    """`module:function`, imported when it is called, with the sources and the arguments; it returns the exit code."""
    options: Sequence[Option] = ()
    arguments: Sequence[Argument] = ()
    epilog: str = ""
    reads: bool = True
    """Whether it reads sidecars' files, and so takes the options that say which."""
    filters: bool = False
    """Whether it takes the filters, which `view.filters` applies."""
    is_strict: bool = False
    """Whether it refuses to start with a mistake in a configuration file, as what serves others without a screen should."""


def listed(name: str, help: str, *, separator: str = ",", metavar: str = "", kind: Kind = TEXT) -> Option:
    """An option whose value is a list."""
    return Option(name, help, kind, metavar=metavar, repeats=True, separator=separator)


SEVERAL_PATHS: Final = os.pathsep
