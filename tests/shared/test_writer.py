"""The writing end of a mapped file: whole or not at all, private, locked, and as it was after every error."""

from __future__ import annotations

import errno
import os
import re
import struct
import time
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES
from gpumodels_shared.identity import ProcessIdentity, this_process
from gpumodels_shared.layout import WriterState
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.writer import SMALLEST_SLOT_BYTES, SnapshotWriter
from mapped_files import CAPACITY, SLOTS, latest

ME: Final = os.geteuid()


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


def test_a_spoilt_file_is_taken_away_and_another_in_its_place_is_not(writer: SnapshotWriter, tmp_path: Path) -> None:
    os.truncate(writer.path, 0)
    writer.discard()
    assert os.listdir(tmp_path) == []
    writer.discard()
    other = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250)
    other.path.unlink()
    other.path.write_bytes(b"somebody else's")
    other.discard()
    assert other.path.read_bytes() == b"somebody else's"


def test_a_path_that_cannot_be_looked_at_proves_nothing(writer: SnapshotWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    def sick(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", sick)
        assert writer.still_named()
    writer.publish(b"payload")


def test_a_descriptor_that_the_host_closed_is_an_error_and_what_has_its_number_now_stays_open(writer: SnapshotWriter) -> None:
    assert writer._file is not None
    number = writer._file.descriptor
    with open(os.devnull) as stranger:
        os.dup2(stranger.fileno(), number)
    with pytest.raises(OSError, match="closed by other code"):
        writer.publish(b"payload")
    assert not writer.still_named()
    writer.abandon()
    os.close(number)  # raises where it isn't open


def test_a_file_for_a_group_is_readable_by_it_alone(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250, group=os.getegid())
    status = writer.path.stat()
    assert (status.st_mode & 0o7777, status.st_gid) == (0o640, os.getegid())
    writer.close()
