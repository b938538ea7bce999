"""The reading end of a mapped file: what is torn, truncated or foreign is an error with its reason, and nothing is believed."""

from __future__ import annotations

import fcntl
import os
import random
import struct
import zlib
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.layout import LayoutError, WriterState
from gpumodels_shared.places import RefusedError
from gpumodels_shared.reader import SnapshotReader, TornError
from gpumodels_shared.writer import SnapshotWriter
from mapped_files import CAPACITY, SLOTS, damage, latest

ME: Final = os.geteuid()


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
    with pytest.raises(TornError, match="incomplete slot header"):
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


def test_checking_the_lock_does_not_take_it(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    other = SnapshotReader(writer.path, ME)
    assert [reader.is_locked(), other.is_locked()] == [True, True]
    writer.abandon()
    assert [reader.is_locked(), other.is_locked(), reader.is_locked()] == [False, False, False]
    with writer.path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    other.close()


def test_a_file_truncated_under_a_reader_is_an_error_and_no_crash(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    writer.publish(os.urandom(CAPACITY))
    for length in (SLOTS[1] + 64 + 5, SLOTS[1] + 10, 4096, 150, 0):
        os.truncate(writer.path, length)
        with pytest.raises(TornError, match="truncated since it was opened"):
            reader.latest()
    with pytest.raises(LayoutError):
        reader.heartbeat()


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


def test_any_function_that_gives_zlibs_sums_may_check_payloads(writer: SnapshotWriter) -> None:
    checked: list[bytes] = []

    def crc32(data: bytes) -> int:
        checked.append(data)
        return zlib.crc32(data)

    writer.publish(b"payload")
    reader = SnapshotReader(writer.path, ME, crc32)
    assert latest(reader).data == b"payload"
    assert checked == [b"payload"]
    reader.close()


def test_a_file_that_is_refused_does_not_stay_open(tmp_path: Path, writer: SnapshotWriter) -> None:
    def lowest_free_descriptors() -> list[int]:
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
        for descriptor in opened:
            os.close(descriptor)
        return opened

    no_header, too_short = tmp_path / "1-1-a.gpm", tmp_path / "1-1-b.gpm"
    no_header.write_bytes(b"not ours at all".ljust(5000))
    too_short.write_bytes(writer.path.read_bytes()[:-1])
    free = lowest_free_descriptors()
    for path in (no_header, too_short):
        with pytest.raises(LayoutError):
            SnapshotReader(path, ME)
    assert lowest_free_descriptors() == free
