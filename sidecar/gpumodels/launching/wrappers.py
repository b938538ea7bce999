"""Commands that run another one, as `env`, `nice` and `timeout` do: what runs in the end, and what they keep from it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpumodels.support.never_pickled import never_pickled

VARIABLE: Final = "PYTHONPATH"
OWN_ENVIRONMENT: Final = frozenset({"docker", "podman", "nerdctl", "kubectl", "ssh"})
"""What these run is elsewhere, with an environment of its own."""
HOOKS_FOLDER: Final = ("gpumodels", "launching", "hook")


@never_pickled
@dataclass(frozen=True, slots=True)
class _Options:
    """How a command's options are told from the command that it runs."""

    with_value: str = ""
    """Options of one letter whose value follows."""
    long_with_value: frozenset[str] = frozenset()
    operands: int = 0
    """Words of its own before the command."""


ENV: Final = _Options("uCS", frozenset({"--unset", "--chdir", "--split-string"}))
WRAPPERS: Final[Mapping[str, _Options]] = {
    "nohup": _Options(),
    "setsid": _Options(),
    "nice": _Options("n", frozenset({"--adjustment"})),
    "ionice": _Options("cn", frozenset({"--class", "--classdata"})),
    "stdbuf": _Options("ioe", frozenset({"--input", "--output", "--error"})),
    "time": _Options("fo", frozenset({"--format", "--output"})),
    "timeout": _Options("sk", frozenset({"--signal", "--kill-after"}), operands=1),
    "taskset": _Options(operands=1),
    "chrt": _Options("TPD", operands=1),
    "numactl": _Options("iNmCp", frozenset({"--interleave", "--cpunodebind", "--membind", "--physcpubind", "--preferred"})),
}


@never_pickled
@dataclass(frozen=True, slots=True)
class Wrapped:
    """What runs in the end."""

    words: list[str]
    """The command and its arguments; empty if that can't be told."""
    why_unseen: str | None = None
    """Why it gets no PYTHONPATH, in words for the user."""


def unwrapped(command: Sequence[str]) -> Wrapped:
    """What this command runs in the end; the command itself, if it isn't one that runs another."""
    words, why = list(command), None
    while words:
        name = Path(words[0]).name
        if name == "env":
            after, lost = _after_env(words[1:])
        elif name in WRAPPERS:
            after, lost = _after_options(words[1:], WRAPPERS[name]), None
        else:
            if name in OWN_ENVIRONMENT or (name == "systemd-run" and "--scope" not in words):
                why = why or f"{name} passes no {VARIABLE} on"
            break
        words, why = after, why or lost
    return Wrapped(words, why)


def _after_options(words: list[str], options: _Options) -> list[str]:
    while words and words[0].startswith("-") and words[0] != "-":
        word, words = words[0], words[1:]
        if word == "--":
            break
        if _value_follows(word, options):
            words = words[1:]
    return words[options.operands :]


def _after_env(words: list[str]) -> tuple[list[str], str | None]:
    lost: str | None = None
    while words:
        word = words[0]
        if word.startswith("-"):
            words = words[1:]
            letters = "" if word.startswith("--") else word[1:]
            value = words[0] if words and _value_follows(word, ENV) else None
            words = words if value is None else words[1:]
            if "S" in letters or word.startswith("--split-string"):
                rest = value if value is not None else letters.partition("S")[2] or word.partition("=")[2]
                words = [*rest.split(), *words]
            if word in ("-", "--ignore-environment") or "i" in letters.partition("u")[0].partition("S")[0]:
                lost = f"env -i passes no {VARIABLE} on"
            if VARIABLE in (value, word.partition("=")[2], letters.partition("u")[2]):
                lost = f"env -u removes {VARIABLE}"
        elif "=" in word:
            name, _, value = word.partition("=")
            if name == VARIABLE and not any(Path(entry).parts[-3:] == HOOKS_FOLDER for entry in value.split(os.pathsep)):
                lost = f"env sets another {VARIABLE}"
            words = words[1:]
        else:
            break
    return words, lost


def _value_follows(word: str, options: _Options) -> bool:
    if word.startswith("--"):
        return word in options.long_with_value
    found = next((at for at, letter in enumerate(word) if at and letter in options.with_value), None)
    return found == len(word) - 1
