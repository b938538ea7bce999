"""Reads a configuration file: its values by option, where each stands, and what is wrong with it, by file, line and key."""

from __future__ import annotations

import errno
import importlib
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from gpumodels_shared.records import Record, field
from gpumodels_tui.settings.kinds import read
from gpumodels_tui.settings.option import Option

MAX_CONFIG_BYTES: Final = 64 * 1024

TOML: Final = "tomllib" if sys.version_info >= (3, 11) else "tomli"

Key = tuple[str, ...]


class ConfigFile(Record):
    """What a configuration file says."""

    path: Path
    is_there: bool = False
    values: Mapping[Key, object] = field(default_factory=dict)
    """By `Option.key`."""
    lines: Mapping[Key, int] = field(default_factory=dict)
    """Where each of them stands, from 1."""
    problems: tuple[str, ...] = ()
    """What is wrong with it, a line each; what is wrong isn't among the values."""


def read_config(path: Path, options: Iterable[Option]) -> ConfigFile:
    """The file's values of these options. A missing file says nothing; whatever else is wrong is among its problems."""
    try:
        content = _content(path)
    except (FileNotFoundError, NotADirectoryError):
        return ConfigFile(path)
    except OSError as error:
        return ConfigFile(path, True, problems=(f"{path}: {_reason(error)}; the file is ignored",))
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return ConfigFile(path, True, problems=(f"{path}: line {line}: not UTF-8; the file is ignored",))
    try:
        stated = _loads(text)
    except ModuleNotFoundError:
        return ConfigFile(path, True, problems=(f"{path}: can't be read without {TOML}; run: pip install {TOML}",))
    except (ValueError, RecursionError) as error:
        return ConfigFile(path, True, problems=(f"{path}: {_about_toml(text, str(error))}; the file is ignored",))
    return _checked(path, text, stated, tuple(options))


def _content(path: Path) -> bytes:
    """The bytes of a regular file that is ours or root's.

    Raises:
        OSError: it can't be opened, or must not be used.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_uid not in (0, os.geteuid()):
            raise OSError(errno.EPERM, f"belongs to uid {status.st_uid}, neither to us nor to root")
        if status.st_mode & stat.S_IWOTH:
            raise OSError(errno.EPERM, "can be written by others")
        content = file.read(MAX_CONFIG_BYTES + 1)
    if len(content) > MAX_CONFIG_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_CONFIG_BYTES // 1024} KB")
    return content


def _checked(path: Path, text: str, stated: Mapping[str, object], options: Sequence[Option]) -> ConfigFile:
    by_key = {option.key: option for option in options}
    values: dict[Key, object] = {}
    lines: dict[Key, int] = {}
    problems = []
    for key, value in _flat(stated, {option.key[0] for option in options if len(option.key) > 1}):
        line = line_of(text, key)
        place = f"{path}: line {line}: {'.'.join(key)}"
        option = by_key.get(key)
        if option is None:
            problems.append(f"{place} is no option{_suggested(key, by_key)}; it is ignored")
            continue
        try:
            values[key] = _value(option, value)
        except ValueError as error:
            problems.append(f"{place} {error}; it is ignored")
        else:
            lines[key] = line
    for group in {(option.command, option.excludes) for option in options if option.excludes}:
        given = [option.key for option in options if (option.command, option.excludes) == group and option.key in values]
        for key in given[1:]:
            del values[key]
            problems.append(f"{path}: line {lines[key]}: {'.'.join(key)} excludes {'.'.join(given[0])}; it is ignored")
    return ConfigFile(path, True, values, lines, tuple(problems))


def _flat(stated: Mapping[str, object], sections: set[str]) -> Iterator[tuple[Key, object]]:
    """Each key with its value; those in a command's section are two words."""
    for name, value in stated.items():
        if name in sections and isinstance(value, dict):
            yield from (((name, below), one) for below, one in value.items())
        else:
            yield (name,), value


def _value(option: Option, stated: object) -> object:
    """The option's value.

    Raises:
        ValueError: it must be something else; says what.
    """
    if option.kind.is_switch:
        if isinstance(stated, bool):
            return stated
        raise ValueError("must be true or false")
    if not option.repeats:
        return _scalar(option, stated)
    if isinstance(stated, list):
        return tuple(_scalar(option, one) for one in stated if one != "")
    return (_scalar(option, stated),) if stated != "" else ()


def _scalar(option: Option, stated: object) -> object:
    # A number may stand where a text is expected, as for `gpu = 0`.
    if isinstance(stated, (str, int, float)) and not isinstance(stated, bool):
        try:
            return read(option.kind, str(stated))
        except ValueError:
            pass
    what = f"must be {option.kind.expects}"
    raise ValueError(f"{what}, or a list of such" if option.repeats else what)


def _suggested(key: Key, known: Iterable[Key]) -> str:
    import difflib  # for mistakes only

    names = [".".join(one) for one in known]
    close = [name for name in names if name.rpartition(".")[2] == key[-1]]  # in the wrong section, or in none
    close = close or difflib.get_close_matches(".".join(key).replace("_", "-"), names, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def line_of(text: str, key: Key) -> int:
    """The line in which a key stands, from 1: the first with which a valid beginning of the file gains the key.

    Args:
        text: A valid file that has the key.
        key: Its sections and its name.
    """
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if key[-1] not in line and "\\" not in line:
            continue
        if _has("".join(lines[:number]), key) is not False:
            continue
        # What began in this line may end in a later one.
        for end in range(number + 1, len(lines) + 1):
            gained = _has("".join(lines[:end]), key)
            if gained is not None:
                if gained:
                    return number + 1
                break
    return 1


def _has(text: str, key: Key) -> bool | None:
    """Whether the text has the key; None if it isn't valid."""
    try:
        value: object = _loads(text)
    except (ValueError, RecursionError):
        return None
    for name in key:
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


def _loads(text: str) -> dict[str, Any]:
    return cast("Callable[[str], dict[str, Any]]", importlib.import_module(TOML).loads)(text)


def _reason(error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    return reason[:1].lower() + reason[1:]


def _about_toml(text: str, said: str) -> str:
    """What the parser said of invalid TOML, with the line first and the key that stands there."""
    reason, _, position = " ".join(said.split()).partition(" (at ")
    lines = text.splitlines() or [""]
    number = len(lines)
    if position.startswith("line "):
        number = min(int(position.removeprefix("line ").partition(",")[0]), number)
    before, equals, _ = lines[number - 1].partition("=")
    key = f"{before.strip()}: " if equals and before.strip() else ""
    return f"line {number}: {key}{reason[:1].lower()}{reason[1:]}"
