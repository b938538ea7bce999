"""The command `gpumodels-tui config`: what is set and where, which files are read, and a file to begin with."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.printing import say, write
from gpumodels_tui.settings.option import Option
from gpumodels_tui.settings.resolving import Setting, Settings
from gpumodels_tui.settings.table import all_options

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources

HEADING: Final = """\
# The settings of gpumodels-tui. What is commented out has this value by default.
# A flag and an environment variable stand above this file, and this file above /etc/gpumodels/config.toml.
"""


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Do what was asked for. Returns the exit code."""
    settings: Settings = arguments.settings
    if arguments.action == "path":
        write("".join(f"{safe_text(str(file.path), 4096)}\n" for file in settings.files))
        return 0
    if arguments.action == "init":
        return _init(settings)
    write("".join(f"{line}\n" for line in shown(settings)))
    for problem in settings.problems:
        say(f"warning: {safe_text(problem, 4096)}")
    return 0


def shown(settings: Settings) -> Iterator[str]:
    """Every option with its value and where it is from, as a configuration file would have it."""
    lines = {key: _assigned(setting.option, setting.value) for key, setting in settings.settings.items()}
    width = min(max(map(len, lines.values())), 40)
    for section, own in _sections(settings.settings.values()):
        if section:
            yield ""
            yield f"[{section}]"
        for setting in own:
            yield f"{lines[setting.option.key]:<{width}}  # {safe_text(setting.origin, 4096)}"


def template() -> str:
    """A configuration file with every option in a comment."""
    lines = [HEADING]
    for section, own in _sections(Setting(option, option.unset, "") for option in all_options()):
        if section:
            lines.append(f"\n[{section}]\n")
        for setting in own:
            option = setting.option
            lines.append(f"\n# {option.help}\n# {option.in_environment}\n#{_assigned(option, option.unset).removeprefix('#')}\n")
    return "".join(lines)


def _init(settings: Settings) -> int:
    path = settings.files[0].path
    if os.path.lexists(path):
        say(f"error: {safe_text(str(path), 4096)} is there already, and stays as it is; edit it, or remove it first")
        return 1
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        say(f"error: can't write {safe_text(str(path), 4096)}: {reason}; set XDG_CONFIG_HOME to a folder of yours")
        return 1
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(template())
    write(f"{safe_text(str(path), 4096)}\n")
    return 0


def _sections(settings: Iterable[Setting]) -> Iterator[tuple[str, list[Setting]]]:
    """The options of all, then each command's."""
    by_section: dict[str, list[Setting]] = {}
    for setting in settings:
        by_section.setdefault(setting.option.command, []).append(setting)
    yield from by_section.items()


def _assigned(option: Option, value: object) -> str:
    """`theme = "dark"`; in a comment if it has no value."""
    return f"#{option.name} = {_toml('')}" if value is None else f"{option.name} = {_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text) + '"'
