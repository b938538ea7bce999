"""Keeps what was noted at the start of an observed call until the call ends.

`sys.monitoring` reports returns per code object, but not exceptions; a call that raised is recognised because no thread runs its
frame any more.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Generic, TypeVar

from gpumodels.support.never_pickled import never_pickled

Noted = TypeVar("Noted")


@never_pickled
class OpenCalls(Generic[Noted]):
    """Notes by the id of the call's frame, which is the same object from start to return. No frame is kept alive."""

    def __init__(self) -> None:
        self._noted: dict[int, tuple[CodeType, Noted]] = {}

    def __len__(self) -> int:
        """The number of open calls, including those that raised and haven't been taken yet."""
        return len(self._noted)

    def begin(self, frame: FrameType, noted: Noted) -> None:
        """Remember a note for a call that is starting."""
        self._noted[id(frame)] = frame.f_code, noted

    def end(self, frame: FrameType) -> Noted | None:
        """Remove and return the note of the call that is returning; None if its start wasn't observed."""
        entry = self._noted.pop(id(frame), None)
        return None if entry is None else entry[1]

    def take_raised(self) -> list[Noted]:
        """Remove and return the notes of calls that ended with an exception."""
        if not self._noted:
            return []
        open_calls = [(key, code) for key, (code, _) in self._noted.copy().items()]
        running: dict[int, CodeType] = {}
        for top in sys._current_frames().values():
            frame: FrameType | None = top
            while frame is not None:
                running[id(frame)] = frame.f_code  # the id of a dead frame may have been reused by another function's
                frame = frame.f_back
        raised = [self._noted.pop(key, None) for key, code in open_calls if running.get(key) is not code]
        return [entry[1] for entry in raised if entry is not None]
