"""The ring is its owner's, bounded in time and bytes, and kept by one service at a time."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gpumodels_tui.recording import ring
from gpumodels_tui.recording.lines import RecordingError
from gpumodels_tui.recording.reading import read_recording
from gpumodels_tui.recording.ring import RingWriter, ring_directory, ring_files
from gpumodels_tui.recording.sampling import Moment
from snapshots import NOON_NS


def a_moment(number: int, noise: int = 10) -> Moment:
    return Moment(NOON_NS + number, {"processes": {}, "noise": os.urandom(noise).hex()}, (), {"host": 1})


def test_where_it_is(tmp_path: Path) -> None:
    assert ring_directory({"STATE_DIRECTORY": "/var/lib/gpumodels:/x"}) == Path("/var/lib/gpumodels/history")
    assert ring_directory({}) == Path(os.environ["XDG_STATE_HOME"]) / "gpumodels" / "history"


def test_what_is_kept_can_be_read_while_it_is_kept_and_is_its_owners(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "history"
    writer = RingWriter(directory)
    writer.write(a_moment(1))
    writer.write(a_moment(2))
    (path,) = ring_files(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    recording = read_recording([path])
    assert (len(recording.members[0].times), recording.problems) == (2, [])
    writer.close()


def test_it_never_takes_more_than_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "FILE_BYTES", 10_000)
    monkeypatch.setattr(ring, "RING_BYTES", 50_000)
    writer = RingWriter(tmp_path / "history")
    most = 0
    for number in range(300):
        writer.write(a_moment(number, 500))
        assert writer.problem is None
        most = max(most, sum(path.stat().st_size for path in ring_files(tmp_path / "history")))
    writer.close()
    assert 30_000 < most <= 50_000
    recording = read_recording(ring_files(tmp_path / "history"))
    assert recording.ended_at_ns == NOON_NS + 299
    assert recording.problems == []


def test_what_is_older_than_a_day_is_removed_and_nothing_else_is_touched(tmp_path: Path) -> None:
    directory = tmp_path / "history"
    directory.mkdir(mode=0o700)
    old, new, other = directory / "1-1.ndjson.gz", directory / "2-1.ndjson.gz", directory / "notes.txt"
    for path in (old, new, other):
        path.write_bytes(b"")
    os.utime(old, (1, 1))
    os.utime(other, (1, 1))
    writer = RingWriter(directory)
    writer.write(a_moment(1))
    writer.close()
    assert not old.exists()
    assert new.exists()
    assert other.exists()


def test_one_service_keeps_it_at_a_time_and_another_takes_over(tmp_path: Path) -> None:
    first, second = RingWriter(tmp_path / "history"), RingWriter(tmp_path / "history")
    first.write(a_moment(1))
    second.write(a_moment(2))
    assert (first.is_keeping, second.is_keeping, second.problem) == (True, False, None)
    first.close()
    third = RingWriter(tmp_path / "history")
    third.write(a_moment(3))
    assert third.is_keeping
    third.close()


def test_a_directory_that_others_can_write_or_that_is_a_symlink_is_refused(tmp_path: Path) -> None:
    shared, link = tmp_path / "shared", tmp_path / "link"
    shared.mkdir()
    shared.chmod(0o777)
    link.symlink_to(shared)
    for directory, reason in ((shared, "can be written by others"), (link, "is a symlink")):
        writer = RingWriter(directory)
        writer.write(a_moment(1))
        assert writer.problem is not None
        assert reason in writer.problem
        with pytest.raises(RecordingError, match=reason):
            ring_files(directory)
    assert list(shared.iterdir()) == []


def test_nothing_yet_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="run `gpumodels-tui record` or"):
        ring_files(tmp_path / "none")


def test_a_moment_that_is_too_large_is_a_problem_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "FILE_BYTES", 1000)
    writer = RingWriter(tmp_path / "history")
    writer.write(a_moment(1, 5000))
    assert writer.problem is not None
    assert "a single moment takes more than" in writer.problem
    writer.close()
