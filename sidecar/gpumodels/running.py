"""`gpumodels run [--] COMMAND…`: becomes the command, in an environment where Pythons with torch start the sidecar."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from gpumodels.launching.hook_files import with_hook
from gpumodels.launching.interpreters import environment_as_started, why_unseen

SHELL: Final = "/bin/sh"
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126


class CannotRunError(Exception):
    """The command can't be executed; the text says why."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code
        """What a shell would have ended with."""


def run(command: Sequence[str]) -> None:
    """Become this command. `script.py arguments…` and `-m module arguments…` are run by this Python, with its own options.

    Raises:
        FileNotFoundError: there is no such script.
        CannotRunError: there is no such command, or it can't be executed.
    """
    words = list(command)
    if not words[0]:
        raise CannotRunError("the command is empty", NOT_FOUND)
    is_script = _is_script(words[0])
    if is_script:
        if words == ["-m"]:
            raise FileNotFoundError("no module named after -m")
        if not words[0].startswith("-") and not Path(words[0]).exists():
            raise FileNotFoundError(f"no such script: {words[0]}")
        words = [sys.executable, *_own_options(sys.orig_argv, sys.argv), *words]
    environment = environment_as_started()
    if environment.get("GPUMODELS") != "0":
        why = why_unseen(words, environment.get("PATH"))
        try:
            environment = with_hook(environment)
        except ValueError as error:
            why = str(error)
        if why is not None:
            print(f"gpumodels: {why}; the command runs without gpumodels", file=sys.stderr, flush=True)
        if is_script:
            environment["_GPUMODELS_START"] = str(os.getpid())
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what is ignored stays so in the command
        with suppress(ValueError):
            signal.signal(number, signal.SIG_DFL)
    try:
        try:
            os.execvpe(words[0], words, environment)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            found = shutil.which(words[0], path=environment.get("PATH")) or words[0]
            os.execve(SHELL, [SHELL, found, *words[1:]], environment)  # a script without `#!`, as shells and env run it
    except OSError as error:
        code = NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE
        what = "no such command" if code == NOT_FOUND else f"can't be executed ({error.strerror})"
        raise CannotRunError(f"{words[0]}: {what}", code) from None


def _is_script(word: str) -> bool:
    """Whether Python is to run it; what it doesn't name as a file of Python's may be a command."""
    if word.startswith("-") or word.endswith((".py", ".pyw", ".pyz")):
        return True
    return shutil.which(word) is None and Path(word).exists()


def _own_options(started: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """The options that the user gave to Python in `python -u -m gpumodels run …`; those in a command's `#!` line are its own."""
    head = list(started[1 : len(started) - len(arguments) + 1])
    if head[-2:] == ["-m", "gpumodels"]:
        return head[:-2]
    return head[:-1] if head[-1:] == ["-mgpumodels"] else []
