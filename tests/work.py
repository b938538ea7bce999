"""Counts work instead of seconds, so that a test says the same on every machine: steps of Python, bytes read, memory taken."""

from __future__ import annotations

import contextlib
import os
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest


@dataclass(slots=True)
class Work:
    """What one thread did from the beginning to the end of `counted`."""

    steps: int = 0
    """Lines of Python that were run, those of libraries too; a loop's line counts each time."""
    bytes_read: int = 0
    """By os.read and os.pread."""
    peak_bytes: int = 0
    """The most memory that Python's allocators held at one time beyond what they held before; 0 where it wasn't asked for."""


@contextlib.contextmanager
def counted(memory: bool = False) -> Iterator[Work]:
    """Count this thread's work; what traced before goes on afterwards."""
    work = Work()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        work.steps += event == "line"
        return trace

    def count(data: bytes) -> bytes:
        work.bytes_read += len(data)
        return data

    read, pread, before, held = os.read, os.pread, sys.gettrace(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "read", lambda descriptor, length: count(read(descriptor, length)))
        patch.setattr(os, "pread", lambda descriptor, length, offset: count(pread(descriptor, length, offset)))
        if memory:
            tracemalloc.start()
            held, _ = tracemalloc.get_traced_memory()
        sys.settrace(trace)
        try:
            yield work
        finally:
            sys.settrace(before)
            if memory:
                work.peak_bytes = tracemalloc.get_traced_memory()[1] - held
                tracemalloc.stop()
