"""Writer and reader of a mapped file together: a reader sees what the writer publishes, complete or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES
from gpumodels_shared.identity import ProcessIdentity, this_process
from gpumodels_shared.layout import LayoutError, WriterState
from gpumodels_shared.places import RefusedError, snapshot_files
from gpumodels_shared.reader import Payload, SnapshotReader, TornError
from gpumodels_shared.writer import SMALLEST_SLOT_BYTES, SnapshotWriter

ME: Final = os.geteuid()
CAPACITY: Final = SMALLEST_SLOT_BYTES - 64
SLOTS: Final = (4096, 4096 + SMALLEST_SLOT_BYTES)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SnapshotWriter]:
    """A writer with nothing published yet."""
    made = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250)
    yield made
    made.abandon()


@pytest.fixture
def reader(writer: SnapshotWriter) -> Iterator[SnapshotReader]:
    """A reader of the writer's file."""
    opened = SnapshotReader(writer.path, ME)
    yield opened
    opened.close()


def latest(reader: SnapshotReader) -> Payload:
    """The newest payload, which must exist."""
    payload = reader.latest()
    assert payload is not None
    return payload


def damage(path: Path, offset: int, change: bytes = b"") -> None:
    """Overwrite bytes of a file in place; one flipped byte unless a change is given."""
    with path.open("r+b") as file:
        file.seek(offset)
        change = change or bytes([file.read(1)[0] ^ 0xFF])
        file.seek(offset)
        file.write(change)


def test_a_fresh_file_is_complete_private_locked_and_empty(
    writer: SnapshotWriter, reader: SnapshotReader, tmp_path: Path
) -> None:
    own = this_process()
    assert re.fullmatch(rf"{own.pid}-{own.start_ticks}-[0-9a-f]{{8}}\.gpm", writer.path.name)
    assert os.listdir(tmp_path) == [writer.path.name]
    status = writer.path.stat()
    assert status.st_mode & 0o7777 == 0o600
    assert status.st_size == 4096 + 2 * SMALLEST_SLOT_BYTES
    assert status.st_blocks * 512 >= status.st_size, "not all of it is allocated"
    header = reader.header
    assert ProcessIdentity(header.pid, header.uid, header.start_ticks, header.pid_namespace, header.boot_id) == own
    assert header.heartbeat_ms == 250
    assert abs(header.created_ns - time.time_ns()) < 60 * 10**9
    assert reader.heartbeat().state is WriterState.STARTING
    assert reader.heartbeat().last_seq == 0
    assert reader.latest() is None
    assert reader.is_locked()


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_files_mode_is_ours_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        writer = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250)
    finally:
        os.umask(before)
    assert writer.path.stat().st_mode & 0o7777 == 0o600
    writer.abandon()


def test_two_files_of_one_process_differ_in_name_and_instance(writer: SnapshotWriter, tmp_path: Path) -> None:
    other = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250)
    with_instances = {SnapshotReader(tmp_path / name, ME).header.instance_id for name in snapshot_files(tmp_path)}
    assert len(with_instances) == 2
    other.abandon()


def test_the_newest_payload_is_read(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    for seq in range(1, 6):
        writer.publish(f"snapshot {seq}".encode())
        payload = latest(reader)
        assert (payload.seq, payload.data) == (seq, f"snapshot {seq}".encode())
        assert abs(payload.realtime_ns - time.time_ns()) < 60 * 10**9
        assert reader.heartbeat().last_seq == seq
        assert reader.heartbeat().state is WriterState.RUNNING


def test_snapshots_alternate_between_the_slots(writer: SnapshotWriter) -> None:
    for seq in range(1, 6):
        writer.publish(b"payload %d" % seq)
        written = writer.path.read_bytes()
        here, there = SLOTS[seq & 1], SLOTS[~seq & 1]
        assert written[here : here + 8] == struct.pack("<Q", seq)
        assert written[here + 64 :].startswith(b"payload %d" % seq)
        assert written[there : there + 8] == struct.pack("<Q", seq - 1)


def test_a_payload_may_be_empty_or_fill_its_slot_to_the_last_byte(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    for payload in (b"", bytes(CAPACITY), b"x", os.urandom(CAPACITY)):
        writer.publish(payload)
        assert latest(reader).data == payload
    assert writer.path.stat().st_size == 4096 + 2 * SMALLEST_SLOT_BYTES


def test_beats_count_up_and_carry_what_failed(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    before = reader.heartbeat().beat
    writer.dropped, writer.last_errno = 3, errno.ENOSPC
    writer.beat()
    heartbeat = reader.heartbeat()
    assert heartbeat.beat == before + 1
    assert (heartbeat.dropped, heartbeat.last_errno) == (3, errno.ENOSPC)


def test_a_torn_payload_gives_way_to_the_other_slot(writer: SnapshotWriter) -> None:
    writer.publish(b"good")
    writer.publish(b"torn")
    damage(writer.path, SLOTS[0] + 64 + 2)
    fresh = SnapshotReader(writer.path, ME)
    assert (latest(fresh).seq, latest(fresh).data) == (1, b"good")
    fresh.close()


def test_a_torn_slot_header_gives_way_to_the_other_slot(writer: SnapshotWriter) -> None:
    writer.publish(b"good")
    writer.publish(b"torn")
    for offset in range(64):
        damage(writer.path, SLOTS[0] + offset)
        fresh = SnapshotReader(writer.path, ME)
        assert latest(fresh).data == b"good"
        fresh.close()
        damage(writer.path, SLOTS[0] + offset)


def test_a_reader_never_goes_back(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    writer.publish(b"old")
    writer.publish(b"new")
    assert latest(reader).data == b"new"
    damage(writer.path, SLOTS[0] + 64)
    with pytest.raises(TornError, match="torn payload"):
        reader.latest()
    writer.publish(b"newer")
    assert latest(reader).data == b"newer"


def test_a_reader_never_goes_back_to_nothing(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    writer.publish(b"only")
    latest(reader)
    damage(writer.path, SLOTS[1], bytes(64))
    with pytest.raises(TornError):
        reader.latest()


def test_two_torn_slots_are_an_error_with_its_reason(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    writer.publish(b"one")
    writer.publish(b"two")
    damage(writer.path, SLOTS[0] + 64)
    damage(writer.path, SLOTS[1] + 64)
    with pytest.raises(TornError, match="torn payload"):
        reader.latest()
    damage(writer.path, SLOTS[0])
    damage(writer.path, SLOTS[1])
    with pytest.raises(TornError, match="no whole slot header"):
        reader.latest()


def test_a_sealed_header_in_the_wrong_slot_of_another_encoding_or_too_long_is_not_believed(
    writer: SnapshotWriter, reader: SnapshotReader
) -> None:
    def sealed(seq: int, length: int, encoding: int) -> bytes:
        body = struct.pack("<QIIQI32x", seq, length, encoding, 0, zlib.crc32(b""))
        return body + struct.pack("<I", zlib.crc32(body))

    for header, reason in (
        (sealed(2, 0, 0), "wrong slot"),
        (sealed(1, 0, 1), "unknown encoding 1"),
        (sealed(1, CAPACITY + 1, 0), "over the limit"),
        (sealed(1, 2**32 - 1, 0), "over the limit"),
    ):
        damage(writer.path, SLOTS[1], header)
        with pytest.raises(TornError, match=reason):
            reader.latest()


def test_a_torn_heartbeat_is_an_error_and_the_next_one_heals_it(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    damage(writer.path, 128 + 3)
    with pytest.raises(LayoutError, match="damaged heartbeat"):
        reader.heartbeat()
    writer.beat()
    assert reader.heartbeat().state is WriterState.RUNNING


def test_a_payload_that_outgrows_its_slot_moves_to_a_larger_file_of_the_same_name(
    writer: SnapshotWriter, reader: SnapshotReader, tmp_path: Path
) -> None:
    writer.publish(b"small")
    large = os.urandom(5 * CAPACITY)
    writer.publish(large)
    assert os.listdir(tmp_path) == [writer.path.name]
    assert reader.heartbeat().state is WriterState.SUPERSEDED
    assert not reader.still_named()
    assert not reader.is_locked()
    assert latest(reader).data == b"small", "the old file stays as good as it was"
    assert writer.still_named()
    larger = SnapshotReader(writer.path, ME)
    assert larger.is_locked()
    assert (latest(larger).seq, latest(larger).data) == (2, large)
    assert larger.heartbeat().beat > 0
    assert larger.header.instance_id != reader.header.instance_id
    assert writer.path.stat().st_mode & 0o7777 == 0o600
    writer.publish(b"small again")
    assert (latest(larger).seq, latest(larger).data) == (3, b"small again")
    larger.close()


def test_the_sequence_never_goes_back_while_a_file_outgrows_itself(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250)
    seen = []
    for power in range(10, 22):
        writer.publish(bytes(2**power))
        writer.publish(b"between")
        reader = SnapshotReader(writer.path, ME)
        seen.append(latest(reader).seq)
        reader.close()
    assert seen == list(range(2, 26, 2))
    writer.close()


def test_the_largest_payload_is_published_and_a_larger_one_is_refused_with_nothing_lost(
    writer: SnapshotWriter, tmp_path: Path
) -> None:
    writer.publish(bytes(MAX_PAYLOAD_BYTES))
    with pytest.raises(OSError, match="over the limit") as refused:
        writer.publish(bytes(MAX_PAYLOAD_BYTES + 1))
    assert refused.value.errno == errno.EMSGSIZE
    reader = SnapshotReader(writer.path, ME)
    assert len(latest(reader).data) == MAX_PAYLOAD_BYTES
    writer.publish(b"next")
    assert (latest(reader).seq, latest(reader).data) == (2, b"next")
    reader.close()


@pytest.mark.parametrize("state", [WriterState.EXITED, WriterState.RUNNING])
def test_a_closed_file_stays_readable_free_and_says_why(
    writer: SnapshotWriter, reader: SnapshotReader, state: WriterState
) -> None:
    writer.publish(b"last words")
    writer.close(state)
    assert reader.heartbeat().state is state
    assert not reader.is_locked()
    assert latest(reader).data == b"last words"
    assert reader.still_named()


def test_an_abandoned_file_says_nothing_and_is_free(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    writer.publish(b"last words")
    writer.abandon()
    assert reader.heartbeat().state is WriterState.RUNNING
    assert not reader.is_locked()
    assert latest(reader).data == b"last words"


def test_letting_go_twice_closes_no_descriptor_of_somebody_else(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    writer.close()
    reader.close()
    # These get the numbers that were just freed.
    strangers = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
    writer.close()
    writer.abandon()
    reader.close()
    for stranger in strangers:
        os.close(stranger)
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.publish(b"too late")
    assert not writer.still_named()


def test_checking_the_lock_does_not_take_it(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    other = SnapshotReader(writer.path, ME)
    assert [reader.is_locked(), other.is_locked()] == [True, True]
    writer.abandon()
    assert [reader.is_locked(), other.is_locked(), reader.is_locked()] == [False, False, False]
    with writer.path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    other.close()


def test_a_removed_or_replaced_file_is_noticed_by_both_ends(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    writer.publish(b"payload")
    assert writer.still_named()
    assert reader.still_named()
    writer.path.unlink()
    assert not writer.still_named()
    assert not reader.still_named()
    assert latest(reader).data == b"payload"
    writer.path.write_bytes(b"another")
    assert not writer.still_named()
    assert not reader.still_named()


def test_a_file_truncated_under_a_reader_is_an_error_and_no_crash(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    writer.publish(os.urandom(CAPACITY))
    for length in (SLOTS[1] + 64 + 5, SLOTS[1] + 10, 4096, 150, 0):
        os.truncate(writer.path, length)
        with pytest.raises(TornError, match="truncated since it was opened"):
            reader.latest()
    with pytest.raises(LayoutError):
        reader.heartbeat()


def test_a_file_truncated_under_its_writer_is_an_error_and_no_crash(writer: SnapshotWriter) -> None:
    assert writer.still_named()
    os.truncate(writer.path, 0)
    assert not writer.still_named(), "it takes a new file to heal this"
    for payload in (b"payload", bytes(2 * CAPACITY)):
        with pytest.raises(OSError, match="truncated by somebody else"):
            writer.publish(payload)
    for use in (writer.beat, writer.close):
        with pytest.raises(OSError, match="truncated by somebody else"):
            use()


def test_a_directory_that_is_gone_is_an_error_and_the_old_file_stays_usable(
    writer: SnapshotWriter, reader: SnapshotReader, tmp_path: Path
) -> None:
    writer.publish(b"before")
    writer.path.unlink()
    tmp_path.rmdir()
    with pytest.raises(FileNotFoundError):
        writer.publish(bytes(2 * CAPACITY))
    with pytest.raises(FileNotFoundError):
        SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250)
    writer.publish(b"after")
    assert (latest(reader).seq, latest(reader).data) == (2, b"after")
    tmp_path.mkdir()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"\x89GPM", "truncated: 4 bytes"),
        (b"not ours at all".ljust(5000), "wrong magic"),
    ],
)
def test_files_that_are_not_ours_are_refused_with_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "1-1-a.gpm"
    path.write_bytes(content)
    with pytest.raises(LayoutError, match=reason):
        SnapshotReader(path, ME)


def test_a_file_shorter_than_its_header_says_is_refused_and_a_longer_one_is_not(writer: SnapshotWriter) -> None:
    writer.publish(b"payload")
    size = writer.path.stat().st_size
    os.truncate(writer.path, 10 << 30)
    reader = SnapshotReader(writer.path, ME)
    assert latest(reader).data == b"payload"
    reader.close()
    os.truncate(writer.path, size - 1)
    with pytest.raises(LayoutError, match=f"truncated: {size - 1} bytes of {size}"):
        SnapshotReader(writer.path, ME)


def test_a_file_of_another_owner_is_refused(writer: SnapshotWriter) -> None:
    with pytest.raises(RefusedError, match="belongs to uid"):
        SnapshotReader(writer.path, ME + 1)


@pytest.mark.parametrize("bit", random.Random(1).sample(range(108 * 8), 60))
def test_a_flipped_bit_of_the_header_closes_the_file_to_readers(writer: SnapshotWriter, bit: int) -> None:
    (byte,) = writer.path.read_bytes()[bit // 8 : bit // 8 + 1]
    damage(writer.path, bit // 8, bytes([byte ^ 1 << bit % 8]))
    with pytest.raises(LayoutError):
        SnapshotReader(writer.path, ME)


def self_describing(seq: int, length: int) -> bytes:
    """A payload that shows any mixture with another one."""
    return struct.pack("<Q", seq) * (length // 8)


@pytest.mark.slow
def test_readers_beside_a_flat_out_writer_accept_nothing_torn_and_never_go_back(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250)
    stop = threading.Event()
    published = 0

    def write() -> None:
        nonlocal published
        lengths = random.Random(3)
        while not stop.is_set():
            published += 1
            writer.publish(self_describing(published, lengths.randrange(8, 8 * 6000)))

    thread = threading.Thread(target=write)
    thread.start()
    reader = SnapshotReader(writer.path, ME)
    accepted = torn = distinct = last = 0
    try:
        while distinct <= 100 or accepted < 2_000:
            try:
                payload = reader.latest()
            except TornError:
                torn += 1
                continue
            if payload is None:
                continue
            assert payload.data == self_describing(payload.seq, len(payload.data))
            assert payload.seq >= last
            distinct += payload.seq > last
            last = payload.seq
            accepted += 1
    finally:
        stop.set()
        thread.join()
        reader.close()
        writer.close()
    print(f"{published} published, {accepted} read, {distinct} distinct, {torn} given up, 0 bad")  # noqa: T201
    assert torn < accepted


@pytest.mark.slow
def test_readers_follow_a_file_that_outgrows_itself_while_they_read(tmp_path: Path) -> None:
    """Whenever the old file is superseded, the name already leads to a newer, complete snapshot."""
    seqs: list[int] = []
    for _ in range(20):
        writer = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250)
        writer.publish(self_describing(1, 80))

        def grow(growing: SnapshotWriter = writer) -> None:
            for seq in range(2, 7):
                growing.publish(self_describing(seq, 30_000 * 2**seq))

        thread = threading.Thread(target=grow)
        reader = SnapshotReader(writer.path, ME)
        thread.start()
        last = 0
        while last < 6:
            if reader.heartbeat().state is WriterState.SUPERSEDED:
                reader.close()
                reader = SnapshotReader(writer.path, ME)
            payload = latest(reader)
            assert payload.data == self_describing(payload.seq, len(payload.data))
            assert payload.seq >= last
            last = payload.seq
        thread.join()
        seqs.append(last)
        reader.close()
        writer.close()
        writer.path.unlink()
    assert seqs == [6] * 20
    assert os.listdir(tmp_path) == []
