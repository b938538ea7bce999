"""Calls of the host's that have begun and haven't returned: what was noted at their beginning, for their end.

`sys.monitoring` tells of returns for one code object alone, not of exceptions; a call that raised is found by its frame, which no
thread runs any more.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Generic, TypeVar

from gpumodels.support.resident import resident

Noted = TypeVar("Noted")


@resident
class OpenCalls(Generic[Noted]):
    """By frame, which is the same object from the call's beginning to its return; no frame is kept."""

    def __init__(self) -> None:
        self._noted: dict[int, tuple[CodeType, Noted]] = {}

    def __len__(self) -> int:
        """How many there are, those that raised included until they are taken."""
        return len(self._noted)

    def begin(self, frame: FrameType, noted: Noted) -> None:
        """This call has begun."""
        self._noted[id(frame)] = frame.f_code, noted

    def end(self, frame: FrameType) -> Noted | None:
        """What was noted of the call that returns; None where its beginning wasn't seen."""
        known = self._noted.pop(id(frame), None)
        return None if known is None else known[1]

    def take_raised(self) -> list[Noted]:
        """What was noted of calls that ended by an exception since this was last asked."""
        if not self._noted:
            return []
        began = [(key, code) for key, (code, _) in self._noted.copy().items()]
        running: dict[int, CodeType] = {}
        for top in sys._current_frames().values():
            frame: FrameType | None = top
            while frame is not None:
                running[id(frame)] = frame.f_code  # the frame of another function may be where one was that is gone
                frame = frame.f_back
        ended = [self._noted.pop(key, None) for key, code in began if running.get(key) is not code]
        return [known[1] for known in ended if known is not None]
