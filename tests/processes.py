"""Builders for tests that need another process: a Python child of given source, and waiting on what it does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from textwrap import dedent
from typing import Final

DEADLINE_SECONDS: Final = 90.0
"""So long is waited only for what never comes: a machine may have other work."""


def run_python(source: str, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the source to its end in a fresh interpreter, on an environment of its own; its text output is kept."""
    return subprocess.run(
        _command(source, arguments),
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


@contextlib.contextmanager
def running_python(source: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A child that runs the source, with pipes for stdin and stdout; killed at the end if it still runs."""
    with subprocess.Popen(
        _command(source, arguments),
        env={**os.environ, **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()


def wait_until(condition: Callable[[], bool], deadline_seconds: float = DEADLINE_SECONDS) -> None:
    """Return as soon as the condition holds.

    Raises:
        AssertionError: it didn't, until the deadline.
    """
    give_up_at = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {deadline_seconds} s"
        time.sleep(0.002)


def _command(source: str, arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-W", "error", "-c", dedent(source), *arguments]
