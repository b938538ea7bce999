"""Records of failed allocations, read by the viewer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpumodels_shared.oom_records import encode_record, record_name, write_record
from gpumodels_shared.schema import OutOfMemory
from gpumodels_tui.sources.kept_records import RecordError, read, records_in
from snapshots import a_snapshot

AT_NS = 1_780_000_000_123_456_789
FAILURE = OutOfMemory(
    AT_NS,
    "cuda:0",
    "exception",
    "CUDA out of memory.",
    7,
    parts={"weights": 5},
    models=(("one", 5),),
    recent=((1, "moved", "one", 5),),
)
CONTENT = encode_record(a_snapshot().process, FAILURE)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir(mode=0o700)
    return tmp_path / "own"


def test_what_was_written_is_read(directory: Path) -> None:
    write_record(directory, record_name(AT_NS + 10**9, 7), CONTENT)
    write_record(directory, record_name(AT_NS, 8), CONTENT)
    paths, problems = records_in([directory, directory / "none"])
    assert ([path.name[-6:-5] for path in paths], problems) == (["8", "7"], [])
    record = read(paths[0])
    assert (record.failure, record.process) == (FAILURE, a_snapshot().process)


def test_a_directory_that_others_may_write_to_is_not_trusted(directory: Path) -> None:
    write_record(directory, record_name(AT_NS, 8), CONTENT)
    directory.chmod(0o777)
    paths, (problem,) = records_in([directory])
    assert paths == []
    assert "can be written by others" in problem


def changed(**fields: object) -> bytes:
    document = json.loads(CONTENT)
    for name, value in fields.items():
        document["out_of_memory"][name] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[]",
        b"3",
        b"not json",
        changed(models=[["one", "large"]]),
        changed(at_ns=None),
        changed(parts=3),
        CONTENT.replace(b'"schema": 1', b'"schema": 2'),
        CONTENT.replace(b'"pid"', b'"dip"'),
    ],
)
def test_what_is_no_record_gets_a_reason(directory: Path, content: bytes) -> None:
    path = write_record(directory, record_name(AT_NS, 7), content)
    with pytest.raises(RecordError, match=r"not a record|needs a newer"):
        read(path)


def test_fields_of_later_versions_are_skipped(directory: Path) -> None:
    path = write_record(directory, record_name(AT_NS, 7), changed(from_the_future=[1]))
    assert read(path).failure == FAILURE


def test_a_link_is_not_followed(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(CONTENT)
    (directory / record_name(AT_NS, 7)).symlink_to(tmp_path / "other")
    with pytest.raises(RecordError, match="is a symlink"):
        read(directory / record_name(AT_NS, 7))
