"""The files that keep records of failed allocations."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from gpumodels_shared.oom_records import (
    MAX_RECORD_BYTES,
    MAX_RECORDS,
    encode_record,
    read_record,
    record_files,
    record_name,
    write_record,
)
from gpumodels_shared.places import RefusedError
from gpumodels_shared.schema import OutOfMemory
from snapshots import a_snapshot

ME = os.geteuid()
AT_NS = 1_780_000_000_123_456_789
CONTENT = encode_record(a_snapshot().process, OutOfMemory(AT_NS, "cuda:0", models=(("ä\x1b[31m", 3),), record="/old"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir(mode=0o700)
    return tmp_path / "own"


def test_a_record_is_read_as_it_was_written(directory: Path) -> None:
    path = write_record(directory, record_name(AT_NS, 7), CONTENT)
    assert path.name == "oom-20260528T202640.123Z-7.json"
    assert os.stat(path).st_mode & 0o777 == 0o600
    document = read_record(path, ME)
    assert document["out_of_memory"]["models"] == [["ä\x1b[31m", 3]]
    assert "record" not in document["out_of_memory"]
    assert document["process"]["pid"] == a_snapshot().process.pid
    assert CONTENT.isascii()
    assert b"\x1b" not in CONTENT


def test_a_record_is_written_anew_in_one_step(directory: Path) -> None:
    name = record_name(AT_NS, 7)
    write_record(directory, name, b"{}")
    write_record(directory, name, CONTENT)
    assert os.listdir(directory) == [name]
    assert read_record(directory / name, ME) == json.loads(CONTENT)


def test_the_oldest_go(directory: Path) -> None:
    for number in range(MAX_RECORDS + 3):
        write_record(directory, record_name(AT_NS + number * 10**9, 7), CONTENT)
    names = [path.name for path in record_files(directory, {ME})[0]]
    assert len(names) == MAX_RECORDS
    assert names[0] == record_name(AT_NS + 3 * 10**9, 7)


def test_a_full_disk_leaves_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda *_: 3)
    with pytest.raises(OSError, match="No space") as raised:
        write_record(directory, record_name(AT_NS, 7), CONTENT)
    assert raised.value.errno == errno.ENOSPC
    assert os.listdir(directory) == []


def test_no_link_is_followed(directory: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    name = record_name(AT_NS, 7)
    (directory / name).symlink_to(victim)
    with pytest.raises(RefusedError):
        read_record(directory / name, ME)
    write_record(directory, name, CONTENT)
    assert victim.read_text() == "precious"
    assert not (directory / name).is_symlink()


@pytest.mark.parametrize("content", [b" " * (MAX_RECORD_BYTES + 1), b"not json", b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_record_is_refused(directory: Path, content: bytes) -> None:
    path = write_record(directory, record_name(AT_NS, 7), content)
    with pytest.raises(ValueError, match=r"\w"):
        read_record(path, ME)
