from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpumodels_shared.codec import encode
from gpumodels_shared.layout import HEADER_BYTES, HEARTBEAT_OFFSET, WriterState
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import Snapshot
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.sources.feed import FeedState, SnapshotFeed
from snapshots import a_model, a_process, a_snapshot, an_identity, published


class FakeClock:
    """Monotonic seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def feed(tmp_path: Path, clock: FakeClock) -> Iterator[SnapshotFeed]:
    tmp_path.chmod(0o700)
    feed = SnapshotFeed([tmp_path], clock)
    yield feed
    feed.close()


Publish = Callable[..., SnapshotWriter]


@pytest.fixture
def publish(tmp_path: Path) -> Iterator[Publish]:
    writers: list[SnapshotWriter] = []

    def publish(*names: str, pid: int = 4711, heartbeat_ms: int = 1000) -> SnapshotWriter:
        writers.append(published(tmp_path, snapshot_of(*names, pid=pid), heartbeat_ms=heartbeat_ms))
        return writers[-1]

    yield publish
    for writer in writers:
        writer.abandon()


def snapshot_of(*names: str, pid: int = 4711) -> Snapshot:
    return a_snapshot(*(a_model(name) for name in names), process=a_process(pid=pid))


def names_in(state: FeedState) -> list[list[str]]:
    return [[model.name for model in one.snapshot.models] if one.snapshot else [] for one in state.processes]


def reasons_in(state: FeedState) -> dict[str, str]:
    return {one.path.name: one.reason for one in state.unreadable}


def test_a_published_snapshot_is_a_live_process(feed: SnapshotFeed, publish: Publish) -> None:
    writer = publish("wan")
    (process,) = feed.poll().processes
    assert process.snapshot == snapshot_of("wan")
    assert (process.pid, process.liveness, process.path) == (4711, Liveness.LIVE, writer.path)
    assert process.snapshot_at_ns is not None
    assert process.problem is None


def test_while_nothing_changes_the_state_is_the_same_object(feed: SnapshotFeed, publish: Publish, clock: FakeClock) -> None:
    writer = publish("wan")
    state = feed.poll()
    for _ in range(5):
        clock.pass_seconds(1)
        writer.beat()
        assert feed.poll() is state


def test_a_new_snapshot_shows_at_the_next_poll_and_leaves_its_neighbours_rows_alone(feed: SnapshotFeed, publish: Publish) -> None:
    writer = publish("wan", pid=1)
    publish("flux", pid=2)
    before = feed.poll()
    writer.publish(encode(snapshot_of("wan", "vae", pid=1)))
    after = feed.poll()
    assert names_in(after) == [["wan", "vae"], ["flux"]]
    assert after.processes[1] is before.processes[1]
    assert after.processes[0].key == before.processes[0].key


def test_a_process_that_outgrew_its_file_stays_the_same_row(feed: SnapshotFeed, publish: Publish) -> None:
    writer = publish("wan")
    before = feed.poll().processes[0]
    many = [f"model {number:05}" for number in range(2000)]
    writer.publish(encode(snapshot_of(*many)))
    (after,) = feed.poll().processes
    assert after.snapshot is not None
    assert len(after.snapshot.models) == len(many)
    assert (after.key, after.liveness) == (before.key, Liveness.LIVE)


def test_files_come_and_go(feed: SnapshotFeed, publish: Publish, clock: FakeClock) -> None:
    assert feed.poll().processes == ()
    first = publish("wan", pid=1)
    assert names_in(feed.poll()) == [["wan"]]
    publish("flux", pid=2)
    assert names_in(feed.poll()) == [["wan"], ["flux"]]
    first.path.unlink()
    assert names_in(feed.poll()) == [["flux"]]


def test_a_process_that_has_published_nothing_yet_is_a_row_without_a_snapshot(feed: SnapshotFeed, tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, an_identity(7), 1000)
    (process,) = feed.poll().processes
    assert (process.pid, process.snapshot, process.liveness) == (7, None, Liveness.LIVE)
    writer.abandon()


def test_ten_silent_beats_are_a_stall_and_the_next_beat_ends_it(feed: SnapshotFeed, publish: Publish, clock: FakeClock) -> None:
    writer = publish("wan")
    feed.poll()
    clock.pass_seconds(9.9)
    (process,) = feed.poll().processes
    assert (process.liveness, process.late_seconds, process.late_since_first_seen) == (Liveness.LIVE, 9, True)
    clock.pass_seconds(1)
    assert feed.poll().processes[0].liveness is Liveness.STALLED
    writer.beat()
    assert feed.poll().processes[0].liveness is Liveness.LIVE
    clock.pass_seconds(5.5)
    (process,) = feed.poll().processes
    assert (process.liveness, process.late_seconds, process.late_since_first_seen) == (Liveness.LIVE, 5, False)


def test_a_released_lock_without_a_goodbye_is_death_and_the_last_snapshot_stays(
    feed: SnapshotFeed, publish: Publish, clock: FakeClock
) -> None:
    writer = publish("wan")
    feed.poll()
    writer.abandon()
    clock.pass_seconds(1.3)
    state = feed.poll()
    assert state.processes[0].liveness is Liveness.DEAD
    assert names_in(state) == [["wan"]]


def test_a_goodbye_shows_at_once(feed: SnapshotFeed, publish: Publish) -> None:
    writer = publish("wan")
    feed.poll()
    writer.close(WriterState.EXITED)
    assert feed.poll().processes[0].liveness is Liveness.EXITED


def test_a_lock_that_a_forked_child_holds_does_not_keep_its_parent_alive(feed: SnapshotFeed, tmp_path: Path) -> None:
    own = an_identity()
    another_life = own._replace(start_ticks=own.start_ticks + 1)
    writer = published(tmp_path, snapshot_of("wan", pid=own.pid), another_life)
    (process,) = feed.poll().processes
    assert process.liveness is Liveness.DEAD
    writer.abandon()


def test_a_pid_of_another_namespace_is_not_looked_up_here(feed: SnapshotFeed, tmp_path: Path) -> None:
    own = an_identity()
    elsewhere = own._replace(start_ticks=own.start_ticks + 1, pid_namespace=own.pid_namespace + 1)
    writer = published(tmp_path, snapshot_of("wan", pid=own.pid), elsewhere)
    assert feed.poll().processes[0].liveness is Liveness.LIVE
    writer.abandon()


def a_valid_file(directory: Path) -> bytes:
    writer = published(directory, snapshot_of("template"))
    writer.abandon()
    content = writer.path.read_bytes()
    writer.path.unlink()
    return content


def of_version(content: bytes, major: int) -> bytes:
    header = bytearray(content[:HEADER_BYTES])
    struct.pack_into("<H", header, 8, major)
    struct.pack_into("<I", header, 104, zlib.crc32(header[:104]))
    return bytes(header) + content[HEADER_BYTES:]


BAD_FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda good: b"", "empty file"),
    "garbage": (lambda good: b"\xde\xad\xbe\xef" * 4096, "wrong magic"),
    "half a header": (lambda good: good[:60], "truncated: 60 bytes"),
    "half a file": (lambda good: good[: len(good) // 2], "truncated:"),
    "of a newer version": (lambda good: of_version(good, 2), "needs a newer gpumodels-tui"),
    "of an unknown version": (lambda good: of_version(good, 0), "format 0.3 is unknown"),
    "with a damaged header": (lambda good: good[:50] + b"\xff" + good[51:], "damaged header"),
    "with a damaged heartbeat": (
        lambda good: good[:HEARTBEAT_OFFSET] + b"\xff" * 64 + good[HEARTBEAT_OFFSET + 64 :],
        "damaged heartbeat",
    ),
    "with a damaged payload": (lambda good: good.replace(b"template", b"TEMPLATE"), "torn payload"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_a_row_with_its_reason_and_its_neighbours_show(
    case: str, feed: SnapshotFeed, publish: Publish, tmp_path: Path
) -> None:
    publish("wan")
    spoil, reason = BAD_FILES[case]
    (tmp_path / "1-1-bad.gpm").write_bytes(spoil(a_valid_file(tmp_path)))
    state = feed.poll()
    assert names_in(state) == [["wan"]]
    assert reason in reasons_in(state)["1-1-bad.gpm"]
    assert feed.poll() is state


def test_a_payload_that_is_no_snapshot_is_a_row_with_its_reason(feed: SnapshotFeed, publish: Publish) -> None:
    writer = publish("wan")
    writer.path.unlink()
    stranger = publish("flux", pid=2)
    stranger.publish(b"\x81\xa5hello\xa5world")
    state = feed.poll()
    assert state.processes == ()
    assert "not a snapshot" in reasons_in(state)[stranger.path.name]


def test_what_is_no_plain_file_is_refused_and_never_waited_for(feed: SnapshotFeed, publish: Publish, tmp_path: Path) -> None:
    publish("wan")
    target = tmp_path / "elsewhere"
    target.write_bytes(a_valid_file(tmp_path))
    (tmp_path / "1-1-symlink.gpm").symlink_to(target)
    os.mkfifo(tmp_path / "1-1-fifo.gpm")
    (tmp_path / "1-1-directory.gpm").mkdir()
    (tmp_path / "1-1-hardlink.gpm").hardlink_to(target)
    state = feed.poll()
    assert names_in(state) == [["wan"]]
    reasons = reasons_in(state)
    assert "is a symlink" in reasons["1-1-symlink.gpm"]
    assert "not a regular file" in reasons["1-1-fifo.gpm"]
    assert "not a regular file" in reasons["1-1-directory.gpm"]
    assert "hard link" in reasons["1-1-hardlink.gpm"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_owner_than_its_directory_is_refused(feed: SnapshotFeed, publish: Publish, tmp_path: Path) -> None:
    publish("wan", pid=1)
    planted = publish("flux", pid=2)
    os.chown(planted.path, 12345, 12345)
    state = feed.poll()
    assert names_in(state) == [["wan"]]
    assert "belongs to uid 12345" in reasons_in(state)[planted.path.name]


def test_a_bad_file_that_becomes_good_shows(feed: SnapshotFeed, tmp_path: Path, clock: FakeClock) -> None:
    content = a_valid_file(tmp_path)
    path = tmp_path / "1-1-late.gpm"
    path.write_bytes(b"")
    assert "1-1-late.gpm" in reasons_in(feed.poll())
    path.write_bytes(content)
    clock.pass_seconds(1)
    state = feed.poll()
    assert names_in(state) == [["template"]]
    assert state.unreadable == ()


def test_a_damaged_newer_snapshot_leaves_the_last_good_one_on_view_with_the_reason(feed: SnapshotFeed, publish: Publish) -> None:
    writer = publish("wan")
    feed.poll()
    writer.publish(b"\xc1")
    (process,) = feed.poll().processes
    assert process.snapshot == snapshot_of("wan")
    assert process.problem is not None
    assert "not msgpack" in process.problem
    writer.publish(encode(snapshot_of("flux")))
    (process,) = feed.poll().processes
    assert (process.snapshot, process.problem) == (snapshot_of("flux"), None)


def test_a_file_truncated_under_its_reader_keeps_its_last_snapshot_with_the_reason(
    feed: SnapshotFeed, publish: Publish, clock: FakeClock
) -> None:
    writer = publish("wan", pid=1)
    publish("flux", pid=2)
    feed.poll()
    os.truncate(writer.path, 100)
    clock.pass_seconds(1)
    feed.poll()
    clock.pass_seconds(1)
    state = feed.poll()
    assert names_in(state) == [["wan"], ["flux"]]
    problem = state.processes[0].problem
    assert problem is not None
    assert "truncated" in problem


def test_a_directory_that_others_may_write_to_is_refused_whole(publish: Publish, tmp_path: Path) -> None:
    publish("wan")
    tmp_path.chmod(0o777)
    feed = SnapshotFeed([tmp_path])
    state = feed.poll()
    assert state.processes == ()
    assert "chmod 700" in reasons_in(state)[tmp_path.name]
    tmp_path.chmod(0o700)
    assert names_in(feed.poll()) == [["wan"]]
    feed.close()


def test_a_symlink_to_a_directory_is_refused(publish: Publish, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    state = SnapshotFeed([link]).poll()
    assert "is a symlink" in reasons_in(state)["link"]


def test_a_directory_that_was_asked_for_and_is_missing_is_said_and_found_when_it_comes(tmp_path: Path) -> None:
    later = tmp_path / "later"
    feed = SnapshotFeed([later])
    assert reasons_in(feed.poll()) == {"later": "no such directory (yet)"}
    later.mkdir(mode=0o700)
    writer = published(later, snapshot_of("wan"))
    assert names_in(feed.poll()) == [["wan"]]
    writer.abandon()
    feed.close()


def test_the_default_directory_may_be_missing_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path / "nothing"))
    assert SnapshotFeed().poll() == FeedState((tmp_path / "nothing",))


def test_more_files_than_are_read_are_said(
    feed: SnapshotFeed, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpumodels_tui.sources.feed.MAX_FILES", 1)
    publish("wan", pid=1)
    publish("flux", pid=2)
    state = feed.poll()
    assert names_in(state) == [["wan"]]
    assert reasons_in(state) == {tmp_path.name: "holds 2 files; only 1 are read"}


def test_a_glance_waits_until_a_slow_heart_has_beaten(tmp_path: Path) -> None:
    writer = published(tmp_path, snapshot_of("wan"), heartbeat_ms=20)
    stamp_beats_in_the_past(writer)
    sleeps: list[float] = []

    def beat_after_a_while(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 2:
            writer.beat()

    feed = SnapshotFeed([tmp_path], clock=lambda: 1000.0 + sum(sleeps))
    (process,) = feed.settle(sleep=beat_after_a_while).processes
    assert process.liveness is Liveness.LIVE
    assert len(sleeps) == 2
    writer.abandon()
    feed.close()


def test_a_glance_calls_a_silent_process_stalled_after_ten_beats(tmp_path: Path) -> None:
    writer = published(tmp_path, snapshot_of("wan"), heartbeat_ms=20)
    stamp_beats_in_the_past(writer)
    clock = FakeClock()
    feed = SnapshotFeed([tmp_path], clock)
    (process,) = feed.settle(sleep=clock.pass_seconds).processes
    assert process.liveness is Liveness.STALLED
    assert clock.now - 1000 < 0.5
    writer.abandon()
    feed.close()


def test_a_glance_does_not_wait_for_what_beats_or_is_dead(tmp_path: Path) -> None:
    alive = published(tmp_path, snapshot_of("wan", pid=1))
    dead = published(tmp_path, snapshot_of("flux", pid=2), heartbeat_ms=20)
    stamp_beats_in_the_past(dead)
    dead.abandon()

    def refuse(seconds: float) -> None:
        raise AssertionError("waited")

    feed = SnapshotFeed([tmp_path])
    state = feed.settle(sleep=refuse)
    assert [process.liveness for process in state.processes] == [Liveness.LIVE, Liveness.DEAD]
    alive.abandon()
    feed.close()


def stamp_beats_in_the_past(writer: SnapshotWriter) -> None:
    """Make the newest heartbeat an hour old."""
    with writer.path.open("r+b") as file:
        file.seek(HEARTBEAT_OFFSET)
        heartbeat = bytearray(file.read(64))
        (realtime_ns,) = struct.unpack_from("<Q", heartbeat, 8)
        struct.pack_into("<Q", heartbeat, 8, realtime_ns - 3600 * 10**9)
        struct.pack_into("<I", heartbeat, 60, zlib.crc32(heartbeat[:60]))
        file.seek(HEARTBEAT_OFFSET)
        file.write(heartbeat)
