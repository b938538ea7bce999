"""The lines of a recording: JSON, one moment each. The first of each gzip member has the whole state, the others a patch."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from gpumodels_shared.records import replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.view.events import Event

VERSION: Final = 1
LATEST_NS: Final = 2**62
MOST_IN_A_LINE: Final = 10_000
"""Events, or devices."""


NULL: Final = msgspec.Raw(b"null")


class RecordingError(ValueError):
    """It is no recording, or can't be used; the text says why in one line."""


class Line(Struct):
    """One moment."""

    at_ns: int
    """Realtime nanoseconds."""
    recording: int | None = None
    """`VERSION`, in lines with a state."""
    host: str | None = None
    every_seconds: float | None = None
    state: msgspec.Raw = NULL
    patch: msgspec.Raw = NULL
    events: tuple[Event, ...] = ()
    """What happened since the line before."""
    used: dict[str, int] = msgspec.field(default_factory=dict)
    """Bytes used on each device, by its key, as far as they are known."""


_DECODER: Final = msgspec.json.Decoder(Line)


def encoded(line: Line) -> bytes:
    """The line with its end."""
    given = {name: value for name in line.__struct_fields__ if (value := getattr(line, name)) and value is not NULL}
    return msgspec.json.encode(given) + b"\n"


def raw(document: Any) -> msgspec.Raw:
    """The document as the value of a line's `state` or `patch`."""
    return msgspec.Raw(msgspec.json.encode(document))


def decoded(text: bytes) -> Line:
    """The line that stands in a file, whoever wrote it.

    Raises:
        RecordingError: it is none.
    """
    try:
        line = _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingError(f"a line is no moment of a recording: {safe_text(str(error), 120)}") from error
    if not 0 < line.at_ns < LATEST_NS or max(len(line.events), len(line.used)) > MOST_IN_A_LINE:
        raise RecordingError("a line has an impossible time, or too many entries")
    if any(not 0 <= used < LATEST_NS for used in line.used.values()):
        raise RecordingError("a line has an impossible number of bytes")
    if line.events:
        line.events = tuple(_checked(event) for event in line.events)
    return line


def document_in(value: msgspec.Raw) -> dict[str, Any]:
    """The state or patch of a line.

    Raises:
        RecordingError: it is no object.
    """
    try:
        return msgspec.json.decode(value, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingError(f"a line has no state: {safe_text(str(error), 120)}") from error


def _checked(event: Event) -> Event:
    held = tuple((safe_text(name), size) for name, size in event.held[:100])
    sizes = (event.size_bytes, event.times, *(size for _, size in held))
    if not 0 < event.at_ns < LATEST_NS or any(not 0 <= size < LATEST_NS for size in sizes):
        raise RecordingError("an event has an impossible number")
    return replace(
        event,
        name=safe_text(event.name, 400),
        process=safe_text(event.process, 400),
        device=safe_text(event.device, 40),
        previous_name=safe_text(event.previous_name, 400),
        held=held,
    )
