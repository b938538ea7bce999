"""Each line is readable at once, and the file never outgrows its limit."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from gpumodels_tui.recording import writing
from gpumodels_tui.recording.files import create
from gpumodels_tui.recording.reading import read_recording
from gpumodels_tui.recording.writing import RecordingWriter
from snapshots import NOON_NS


def lines_in(packed: bytes) -> list[dict[str, Any]]:
    """Of the first member, which may be cut."""
    return [json.loads(line) for line in zlib.decompressobj(31).decompress(packed).splitlines()]


def test_every_line_is_there_before_the_next_and_says_what_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "r.ndjson.gz"
    writer = RecordingWriter(create(path), 2**20, 2.0)
    assert writer.write(NOON_NS, {"a": 1, "b": {"c": 1}}, [], {"host": 5})
    assert lines_in(path.read_bytes())[0]["state"] == {"a": 1, "b": {"c": 1}}
    assert writer.write(NOON_NS + 1, {"a": 1, "b": {"c": 2}}, [], {"host": 5})
    assert lines_in(path.read_bytes())[1]["patch"] == {"b": {"c": 2}}
    assert writer.write(NOON_NS + 2, {"a": 1, "b": {"c": 2}}, [], {"host": 5})
    assert len(lines_in(path.read_bytes())) == 2  # nothing is new
    writer.close()
    assert gzip.decompress(path.read_bytes()).count(b"\n") == 2
    assert writer.size == path.stat().st_size


def test_a_member_begins_with_a_whole_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MEMBER_SECONDS", 0.0)
    path = tmp_path / "r.ndjson.gz"
    writer = RecordingWriter(create(path), 2**20, 2.0)
    for number in range(3):
        writer.write(NOON_NS + number, {"a": number}, [], {})
    writer.close()
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert [line["state"] for line in lines] == [{"a": 0}, {"a": 1}, {"a": 2}]


def test_the_limit_is_kept_to_the_byte_and_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "r.ndjson.gz"
    limit = 20_000
    writer = RecordingWriter(create(path), limit, 2.0)
    count = 0
    while writer.write(NOON_NS + count, {"processes": {}, "noise": os.urandom(400).hex()}, [], {}):
        count += 1
    writer.close()
    assert limit * 0.9 < path.stat().st_size <= limit
    recording = read_recording([path])
    assert (len(recording.members[0].times), recording.problems) == (count, [])


def test_a_first_moment_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.ndjson.gz"
    writer = RecordingWriter(create(path), 1000, 2.0)
    assert not writer.write(NOON_NS, {"noise": os.urandom(4000).hex()}, [], {})
    writer.close()
    assert path.stat().st_size < 100
