"""The terminal that the screens are drawn on, whatever else the command's streams were redirected to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2


@contextlib.contextmanager
def on_the_terminal() -> Iterator[None]:
    """Keys are read from, and Textual draws on, the terminal that stdout is: `2>log` and `</dev/null` change nothing about it.

    Textual draws on stderr, and an stdin that ends at once would keep it busy for nothing.
    """
    redirected = [descriptor for descriptor in (STDIN, STDERR) if not os.isatty(descriptor)]
    saved = {descriptor: os.dup(descriptor) for descriptor in redirected}
    try:
        for descriptor in redirected:
            os.dup2(STDOUT, descriptor)
        yield
    finally:
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)
