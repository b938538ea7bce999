"""Reads recordings, which may be cut, damaged or hostile: what comes before the damage counts, within limits."""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from gpumodels_tui.recording.files import is_being_written, open_for_reading
from gpumodels_tui.recording.lines import VERSION, RecordingError, decoded, document_in
from gpumodels_tui.recording.merge_patch import Document, patched
from gpumodels_tui.recording.restoring import Restorer, Sources
from gpumodels_tui.recording.writing import GZIP, QUIET_SECONDS
from gpumodels_tui.view.events import Event, EventKind

CHUNK_BYTES: Final = 256 * 1024
LONGEST_LINE_BYTES: Final = 64 * 1024**2
MOST_LINES: Final = 500_000
MOST_UNPACKED_BYTES: Final = 8 * 1024**3
MOST_EVENTS: Final = 200_000
MOST_PATCHED_BYTES: Final = 512 * 1024**2
"""Of one member: what a state can grow to by patches."""
GAP_LINES: Final = 3
"""Where so many moments are missing, nobody was recording."""


class Member(Struct, frozen=True):
    """A part of a file that can be read by itself."""

    path: Path
    offset: int
    times: tuple[int, ...]
    """Of its lines, realtime nanoseconds, never falling."""


class Sample(Struct, frozen=True):
    """The bytes used on each device at one moment."""

    at_ns: int
    used: dict[str, int]


class Recording(Struct):
    """What a recording has: its moments are read when they are wanted."""

    members: list[Member] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What is wrong with its files, a line each."""
    every_seconds: float = 1.0

    @property
    def begun_at_ns(self) -> int:
        """Its first moment."""
        return self.members[0].times[0]

    @property
    def ended_at_ns(self) -> int:
        """Its last moment."""
        return self.members[-1].times[-1]

    @property
    def gap_ns(self) -> int:
        """Moments that are further apart have a time between them that wasn't recorded."""
        return int((QUIET_SECONDS + GAP_LINES * self.every_seconds) * 10**9)


def read_recording(paths: Sequence[Path]) -> Recording:
    """Find out what files have that follow one another. A file that has nothing is a problem, unless it is the only one.

    Raises:
        RecordingError: there is nothing in any of them.
    """
    recording = Recording()
    for path in paths:
        try:
            _read_file(path, recording)
        except RecordingError as error:
            recording.problems.append(str(error))
    if not recording.members:
        raise RecordingError(recording.problems[0] if recording.problems else "nothing was recorded yet")
    recording.members.sort(key=lambda member: member.times[0])
    recording.events = _each_once(sorted(recording.events, key=lambda event: event.at_ns))
    recording.samples.sort(key=lambda sample: sample.at_ns)
    return recording


def _each_once(events: list[Event]) -> list[Event]:
    """The events without the beginnings that the recorder who came next told once more."""
    begun: set[tuple[EventKind, str | None]] = set()
    kept: list[Event] = []
    for event in events:
        if event.kind in (EventKind.STARTED, EventKind.LOADED):
            key = event.kind, event.model_key or event.process_key
            if key in begun:
                continue
            begun.add(key)
        kept.append(event)
    return kept


def _read_file(path: Path, recording: Recording) -> None:
    """Add the file's members.

    Raises:
        RecordingError: there is none.
    """
    times: list[int] = []
    at_offset = -1
    count = unpacked = 0
    newest = 0
    problem = None

    def keep_member() -> None:
        if times:
            recording.members.append(Member(path, at_offset, tuple(times)))
        times.clear()

    before = len(recording.members)
    try:
        for offset, text in _lines(path):
            line = decoded(text)
            count += 1
            unpacked += len(text)
            if offset != at_offset:
                keep_member()
                at_offset = offset
                if line.recording is None:
                    raise RecordingError("not a recording of gpumodels-tui")
                if line.recording > VERSION:
                    raise RecordingError("needs a newer gpumodels-tui")
                recording.every_seconds = max(recording.every_seconds, min(max(line.every_seconds or 1.0, 0.1), 3600.0))
                if line.host is not None and line.host not in recording.hosts[:100]:
                    recording.hosts.append(line.host)
            if count > MOST_LINES or unpacked > MOST_UNPACKED_BYTES or len(recording.events) > MOST_EVENTS:
                raise RecordingError("is too long; the rest is left out")
            newest = max(newest, line.at_ns)  # clocks are set back
            times.append(newest)
            recording.events += line.events
            recording.samples.append(Sample(newest, line.used))
    except RecordingError as error:
        problem = str(error)
    keep_member()
    if problem is not None:
        problem = problem if problem.startswith(str(path)) else f"{path}: {problem}"
        if len(recording.members) == before:
            raise RecordingError(problem)
        recording.problems.append(f"{problem}; it is shown up to there")
    elif len(recording.members) == before:
        raise RecordingError(f"{path}: nothing was recorded")


def _lines(path: Path, offset: int = 0, *, one_member: bool = False) -> Iterator[tuple[int, bytes]]:
    """Each line with the offset of its member.

    Raises:
        RecordingError: the rest can't be read, or is missing.
    """
    descriptor = open_for_reading(path)
    try:
        os.lseek(descriptor, offset, os.SEEK_SET)
        member_at, position, left = offset, offset, b""
        unpacker = zlib.decompressobj(GZIP)
        has_begun = has_text = False
        line = bytearray()
        while True:
            if not left:
                left = os.read(descriptor, CHUNK_BYTES)
                position += len(left)
                if not left:
                    break
            has_begun = True
            try:
                text = unpacker.decompress(left, CHUNK_BYTES)
            except zlib.error as error:
                if not offset and not has_text:
                    raise RecordingError("not a recording of gpumodels-tui, or damaged from its beginning") from error
                raise RecordingError("is damaged") from error
            has_text = has_text or bool(text)
            left = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            *whole, rest = text.split(b"\n")
            for part in whole:
                line += part
                yield member_at, bytes(line)
                line.clear()
            line += rest
            if len(line) > LONGEST_LINE_BYTES:
                raise RecordingError("has a line that is too long")
            if unpacker.eof:
                if line:
                    raise RecordingError("not a recording of gpumodels-tui" if not member_at else "is damaged")
                if one_member:
                    return
                member_at, unpacker, has_begun = position - len(left), zlib.decompressobj(GZIP), False
        # A cut or growing file: what was flushed is whole lines.
        if has_begun and not is_being_written(descriptor):
            raise RecordingError("its end is missing")
    finally:
        os.close(descriptor)


class Cursor:
    """Goes through a recording's moments, forwards cheaply, anywhere at the cost of one member."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._firsts = [member.times[0] for member in recording.members]
        self._restorer = Restorer()
        self._member = -1
        self._number = -1
        """Of the line in its member whose state is known."""
        self._lines: Iterator[tuple[int, bytes]] = iter(())
        self._document: Document = {}
        self._restored: Sources | None = None

    def at(self, at_ns: int) -> tuple[int, Sources]:
        """The last moment until then, the first if there is none, and what the sources said. The same object while that is so.

        Raises:
            RecordingError: the file has changed since it was first read, or the moment is damaged.
        """
        member = max(bisect_right(self._firsts, at_ns) - 1, 0)
        times = self._recording.members[member].times
        number = max(bisect_right(times, at_ns) - 1, 0)
        if (member, number) != (self._member, self._number):
            self._go_to(member, number)
        if self._restored is None:
            self._restored = self._restorer.restore(self._document)
        return times[number], self._restored

    def _go_to(self, member: int, number: int) -> None:
        if member != self._member or number < self._number:
            where = self._recording.members[member]
            self._lines = _lines(where.path, where.offset, one_member=True)
            self._member, self._number = member, -1
        grown = 0
        while self._number < number:
            text = next(self._lines, None)
            if text is None:
                raise RecordingError("the recording has become shorter")
            line = decoded(text[1])
            grown += len(text[1])
            if grown > MOST_PATCHED_BYTES:
                raise RecordingError("a moment is too large")
            self._document = document_in(line.state) if self._number < 0 else patched(self._document, document_in(line.patch))
            self._number += 1
        self._restored = None
