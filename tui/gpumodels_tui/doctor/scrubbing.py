"""Takes out of a text what is nobody else's business: homes, users, hosts, addresses, arguments of commands and secrets."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from gpumodels_tui.sources.feed import FeedState

HOME: Final = "~"
USER: Final = "<user>"
HOST: Final = "<host>"
ADDRESS: Final = "<address>"
ARGUMENT: Final = "<argument>"
SECRET: Final = "<secret>"

SHORTEST_ARGUMENT: Final = 3
SHORTEST_SECRET: Final = 4
HARMLESS: Final = frozenset(
    {"auto", "bfloat16", "cpu", "cuda", "cuda:0", "false", "float16", "float32", "fp8", "half", "mps", "none", "serve", "true"}
)
"""Arguments that everybody gives, and that reports speak of."""
FIRST_PERSON: Final = 1000
"""Uids of people begin here; those below are services, which everybody has."""

_HOMES: Final = re.compile(r"(?:/var)?/(?:home|Users|users)/[^/\s\"'`:,;)]+|/root(?=[/\s\"'`:,;)]|$)")
_ADDRESSES: Final = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b|\b(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}\b", re.IGNORECASE)
_CREDENTIALS: Final = re.compile(
    r"\b(?:hf_|sk-|gh[pousr]_|github_pat_|xox[abp]-|AKIA|glpat-|eyJ)[\w./+=-]{8,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?<=[?&])[\w-]*(?:key|token|secret|password|signature)[\w-]*=[^&\s]+",
    re.IGNORECASE,
)
_SECRET_NAME: Final = re.compile(r"key|token|secret|pass|cred|auth|cookie|session|private|dsn|url|uri", re.IGNORECASE)


class Scrubber:
    """Knows what to take out, and puts the same word in its place each time."""

    def __init__(
        self,
        homes: Iterable[str],
        users: Iterable[str],
        hosts: Iterable[str],
        arguments: Iterable[str],
        secrets: Iterable[str],
    ) -> None:
        literal = {secret: SECRET for secret in secrets if len(secret) >= SHORTEST_SECRET}
        literal |= {home.rstrip("/"): HOME for home in homes if len(home.rstrip("/")) > 1}
        self._literal = sorted(literal.items(), key=lambda pair: -len(pair[0]))
        words = dict.fromkeys((user.casefold() for user in users if user and user != "root"), USER)
        words |= dict.fromkeys((host.casefold() for host in hosts if host and host != "localhost"), HOST)
        self._words = words
        self._word = _any_word(words)
        long_enough = {one for one in arguments if len(one) >= SHORTEST_ARGUMENT and one.casefold() not in HARMLESS}
        self._argument = _any_word(long_enough)

    def text(self, text: str) -> str:
        """The text without them."""
        for found, instead in self._literal:
            text = text.replace(found, instead)
        text = self._argument.sub(ARGUMENT, text)
        text = _CREDENTIALS.sub(SECRET, text)
        text = _HOMES.sub(HOME, text)
        text = self._word.sub(lambda match: self._words[match[0].casefold()], text)
        return _ADDRESSES.sub(ADDRESS, text)

    def value(self, value: object) -> object:
        """The same for all texts in lists and dictionaries, the keys of dictionaries included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (list, tuple)):
            return [self.value(one) for one in value]
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(one) for key, one in value.items()}
        return value


def _any_word(words: Iterable[str]) -> re.Pattern[str]:
    """Any of these where no letter or digit is right before or after it; the longest first."""
    longest_first = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})(?![^\W_])", re.IGNORECASE)


def scrubber_for(feed: FeedState, environment: Mapping[str, str]) -> Scrubber:
    """One that knows this machine: its users, its names, what its processes were called with, and this environment."""
    people = [one for one in _accounts() if one.pw_uid >= FIRST_PERSON or one.pw_uid == os.geteuid()]
    owners = {process.user for process in feed.processes}
    variables = ("USER", "LOGNAME", "SUDO_USER", "USERNAME", "SLURM_JOB_USER")
    users = {one.pw_name for one in people} | owners | {environment[name] for name in variables if environment.get(name)}
    homes = {one.pw_dir for one in people} | {environment.get("HOME", ""), str(Path.home())}
    commands = [process.snapshot.process.command for process in feed.processes if process.snapshot is not None]
    return Scrubber(
        homes,
        (user for user in users if not user.isdecimal()),
        _host_names(environment),
        (value for command in commands for value in argument_values(command)),
        (value for name, value in environment.items() if _SECRET_NAME.search(name)),
    )


def argument_values(command: Iterable[str]) -> Iterable[str]:
    """What the command was called with, besides the names of its options and the name of its script."""
    is_script_next = True
    for word in list(command)[1:]:
        if word.startswith("-"):
            _, equals, value = word.partition("=")
            if equals:
                yield value
        elif is_script_next:  # `python -m module`, `python folder/script.py`: the label of the process has its name
            is_script_next = False
            if word != os.path.basename(word):  # noqa: PTH119  # as text: it is another process's
                yield word
        else:
            yield word


def _accounts() -> list[pwd.struct_passwd]:
    with contextlib.suppress(OSError, KeyError):
        return pwd.getpwall()
    return []


def _host_names(environment: Mapping[str, str]) -> set[str]:
    stated = {os.uname().nodename, socket.gethostname(), *(environment.get(name, "") for name in ("HOSTNAME", "HOST"))}
    return stated | {name.partition(".")[0] for name in stated}
