"""Writes a recording: gzip members that begin with a whole state, flushed line by line, so that what is cut off is little."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from gpumodels_tui.recording.lines import VERSION, Line, encoded, raw
from gpumodels_tui.recording.merge_patch import Document, patch_between
from gpumodels_tui.view.events import Event

MEMBER_SECONDS: Final = 300.0
"""How often a member begins: a reader goes to any moment from the one before it."""
GZIP: Final = 31
LEVEL: Final = 6
END_BYTES: Final = 64
"""Room for the end of a member."""
QUIET_SECONDS: Final = 10.0
"""A line is written at least so often: it says that nothing has changed, and that somebody was recording."""


class RecordingWriter:
    """Writes to a descriptor that it then owns, and never more than the limit."""

    def __init__(self, descriptor: int, limit_bytes: int, every_seconds: float) -> None:
        self._descriptor = descriptor
        self.limit_bytes = limit_bytes
        """The most bytes in the file."""
        self._every_seconds = every_seconds
        self._packer: zlib._Compress | None = None
        self._before: Document = {}
        self._begun_at = float("-inf")
        self._written_at = float("-inf")
        self._used: Mapping[str, int] = {}
        self.size = 0
        """Bytes in the file."""

    def write(self, at_ns: int, document: Document, events: Sequence[Event], used: Mapping[str, int]) -> bool:
        """Add a moment. Returns whether there was room for it; if not, the recording is complete.

        Raises:
            OSError: it can't be written.
        """
        now = time.monotonic()
        if self._packer is None or now - self._begun_at >= MEMBER_SECONDS:
            self._end_member()
            self._begun_at = now
            self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
            line = Line(
                at_ns, VERSION, os.uname().nodename, self._every_seconds, raw(document), events=tuple(events), used=dict(used)
            )
        else:
            patch = patch_between(self._before, document)
            if not patch and not events and used == self._used and now - self._written_at < QUIET_SECONDS:
                return True
            line = Line(at_ns, patch=raw(patch), events=tuple(events), used=dict(used))
        text = encoded(line)
        packed = self._packed(text)
        if packed is None:
            return False
        self._before, self._written_at, self._used = document, now, dict(used)
        self._put(packed)
        return True

    def close(self) -> None:
        """End the file."""
        if self._descriptor >= 0:
            try:
                self._end_member()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def _packed(self, text: bytes) -> bytes | None:
        """The line as it is written; None if there is no room."""
        assert self._packer is not None
        # What doesn't shrink grows by a thousandth at most.
        if self.size + len(text) + len(text) // 1000 + 2 * END_BYTES <= self.limit_bytes:
            return self._packer.compress(text) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        before = self._packer.copy()
        packed = self._packer.compress(text) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        if self.size + len(packed) + END_BYTES <= self.limit_bytes:
            return packed
        self._packer = before
        return None

    def _end_member(self) -> None:
        packer, self._packer = self._packer, None
        if packer is not None:
            self._put(packer.flush(zlib.Z_FINISH))

    def _put(self, packed: bytes) -> None:
        left = memoryview(packed)
        while left:
            count = os.write(self._descriptor, left)
            self.size += count
            left = left[count:]
