"""What is printed: data on stdout, which must arrive, and lines on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

CLOSED: Final = "it is closed"
"""Python has no stdout if its descriptor was closed before it began."""


class OutputError(Exception):
    """Nothing can be printed; the text says why."""


def write(text: str) -> None:
    """Print the text, and see to it that it arrives.

    Raises:
        BrokenPipeError: the reader has closed the pipe.
        OutputError: the output is full, or can't be written to for another reason.
    """
    if sys.stdout is None:
        raise OutputError(CLOSED)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError, ValueError):  # what is still buffered must not fail again at exit
            descriptor = sys.stdout.fileno()
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        if isinstance(error, BrokenPipeError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise OutputError(reason[:1].lower() + reason[1:]) from error


def say(line: str) -> None:
    """Say it on stderr, if there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"gpumodels-tui: {line}\n")
            sys.stderr.flush()


def columns() -> int | None:
    """The columns that lines may take: COLUMNS, which `watch` sets, else the terminal's; None if nobody says."""
    stated = os.environ.get("COLUMNS", "")
    if stated.isdecimal() and int(stated):
        return int(stated)
    with contextlib.suppress(AttributeError, OSError, ValueError):  # there is no stdout, or it is no terminal
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    return None
