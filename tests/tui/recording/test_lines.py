"""Lines come back as they were written; what is none is refused."""

from __future__ import annotations

import json

import pytest

from gpumodels_tui.recording.lines import Line, RecordingError, decoded, document_in, encoded, raw
from gpumodels_tui.view.events import Event, EventKind
from snapshots import GIB, NOON_NS

EVENT = Event(0, NOON_NS, EventKind.LOADED, "wan", "vllm 1", "0", GIB, "m", held=(("a", 1),))


def test_a_line_is_read_as_it_was_written() -> None:
    line = Line(NOON_NS, 1, "host", 2.0, raw({"a": 1}), events=(EVENT,), used={"host": 5})
    text = encoded(line)
    assert text.endswith(b"\n")
    assert json.loads(text)["events"][0]["kind"] == "loaded"
    back = decoded(text)
    assert (back.at_ns, back.host, back.events, back.used) == (NOON_NS, "host", (EVENT,), {"host": 5})
    assert document_in(back.state) == {"a": 1}
    with pytest.raises(RecordingError):
        document_in(back.patch)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"nonsense",
        b'{"at_ns": 0}',
        b'{"at_ns": 9223372036854775807}',
        b'{"at_ns": 1e400}',
        b'{"at_ns": 5, "used": {"host": -1}}',
        b'{"at_ns": 5, "events": [{}]}',
        b'{"at_ns": 5, "events": [{"number": 1, "at_ns": -5, "kind": "loaded", "name": "x", "process": "x"}]}',
        b'{"at_ns": 5, "state": ' + b"[" * 100_000,
        b'{"at_ns": 5, "host": "\xff"}',
    ],
)
def test_what_is_no_line_is_refused(text: bytes) -> None:
    with pytest.raises(RecordingError):
        decoded(text)


def test_names_of_events_are_made_safe() -> None:
    hostile = Event(0, NOON_NS, EventKind.DIED, "a\x1b[2J", "p\n", "d\r", held=(("h\x1b", 1),))
    (event,) = decoded(encoded(Line(NOON_NS, events=(hostile,)))).events
    assert not any(
        ord(character) < 32 for text in (event.name, event.process, event.device, event.held[0][0]) for character in text
    )
