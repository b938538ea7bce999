"""The mapped file's bytes, against the table that fixes them: numbers here are literal on purpose."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import pytest

from gpumodels_shared.layout import (
    MAX_SLOT_BYTES,
    MINOR,
    Header,
    Heartbeat,
    LayoutError,
    NewerFormatError,
    SlotHeader,
    WriterState,
    pack_header,
    pack_heartbeat,
    pack_slot_header,
    parse_header,
    parse_heartbeat,
    parse_slot_header,
)
from gpumodels_shared.records import replace

HEADER: Final = Header(
    slot_bytes=65_536,
    heartbeat_ms=500,
    pid=4711,
    uid=1000,
    start_ticks=123_456_789_012,
    pid_namespace=4_026_531_836,
    boot_id=bytes(range(16)),
    instance_id=bytes(range(100, 116)),
    created_ns=1_780_000_000_000_000_000,
)
HEARTBEAT: Final = Heartbeat(7, 1_780_000_000_000_000_001, WriterState.RUNNING, last_errno=0xFFFF_FFF0, dropped=3, last_seq=41)
SLOT: Final = SlotHeader(seq=41, length=1234, realtime_ns=1_780_000_000_000_000_002, payload_crc=0xDEADBEEF)


def number(data: bytes, offset: int, size: int) -> int:
    """The little-endian unsigned number at an offset."""
    return int.from_bytes(data[offset : offset + size], "little")


def resealed(data: bytes, offset: int, change: bytes, crc_at: int) -> bytes:
    """The bytes with a change, and a checksum that is right for it."""
    body = bytearray(data)
    body[offset : offset + len(change)] = change
    body[crc_at : crc_at + 4] = struct.pack("<I", zlib.crc32(bytes(body[:crc_at])))
    return bytes(body)


def test_page_0_lies_where_the_table_says() -> None:
    page = pack_header(HEADER)
    assert len(page) == 4096
    assert page[0:8] == b"\x89GPM\r\n\x1a\n"
    assert number(page, 8, 2) == 1
    assert number(page, 10, 2) == MINOR
    assert number(page, 12, 4) == 4096
    assert number(page, 16, 4) == 65_536
    assert number(page, 20, 4) == 500
    assert number(page, 24, 8) == 4096
    assert number(page, 32, 8) == 4096 + 65_536
    assert number(page, 40, 4) == 4711
    assert number(page, 44, 4) == 1000
    assert number(page, 48, 8) == 123_456_789_012
    assert number(page, 56, 8) == 4_026_531_836
    assert page[64:80] == bytes(range(16))
    assert page[80:96] == bytes(range(100, 116))
    assert number(page, 96, 8) == 1_780_000_000_000_000_000
    assert number(page, 104, 4) == zlib.crc32(page[:104])
    assert not any(page[108:])


def test_the_heartbeat_lies_where_the_table_says() -> None:
    packed = pack_heartbeat(HEARTBEAT)
    assert len(packed) == 64
    assert number(packed, 0, 8) == 7
    assert number(packed, 8, 8) == 1_780_000_000_000_000_001
    assert number(packed, 16, 4) == 2
    assert number(packed, 20, 4) == 0xFFFF_FFF0
    assert number(packed, 24, 8) == 3
    assert number(packed, 32, 8) == 41
    assert not any(packed[40:60])
    assert number(packed, 60, 4) == zlib.crc32(packed[:60])


def test_a_slot_header_lies_where_the_table_says() -> None:
    packed = pack_slot_header(SLOT)
    assert len(packed) == 64
    assert number(packed, 0, 8) == 41
    assert number(packed, 8, 4) == 1234
    assert number(packed, 12, 4) == 0
    assert number(packed, 16, 8) == 1_780_000_000_000_000_002
    assert number(packed, 24, 4) == 0xDEADBEEF
    assert not any(packed[28:60])
    assert number(packed, 60, 4) == zlib.crc32(packed[:60])


def test_the_writers_states_have_the_tables_numbers() -> None:
    assert {state.name: state.value for state in WriterState} == {"STARTING": 1, "RUNNING": 2, "EXITED": 3, "SUPERSEDED": 4}


def test_slots_alternate_and_the_file_holds_both() -> None:
    assert [HEADER.slot_offset(seq) for seq in range(4)] == [4096, 69_632, 4096, 69_632]
    assert HEADER.file_bytes == 4096 + 2 * 65_536
    assert HEADER.payload_capacity == 65_536 - 64


def test_what_was_packed_is_parsed() -> None:
    assert parse_header(pack_header(HEADER)) == HEADER
    assert parse_heartbeat(pack_heartbeat(HEARTBEAT)) == HEARTBEAT
    assert parse_slot_header(pack_slot_header(SLOT)) == SLOT


def test_every_flipped_bit_of_the_header_is_refused() -> None:
    page = pack_header(HEADER)[:108]
    for bit in range(108 * 8):
        damaged = bytearray(page)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LayoutError) as refused:
            parse_header(bytes(damaged))
        assert not isinstance(refused.value, NewerFormatError), "damage must not be taken for a newer version"


def test_every_flipped_bit_of_a_heartbeat_or_slot_header_is_refused() -> None:
    for bit in range(64 * 8):
        heartbeat, slot = bytearray(pack_heartbeat(HEARTBEAT)), bytearray(pack_slot_header(SLOT))
        heartbeat[bit // 8] ^= 1 << bit % 8
        slot[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LayoutError):
            parse_heartbeat(bytes(heartbeat))
        with pytest.raises(LayoutError):
            parse_slot_header(bytes(slot))


def test_every_truncation_of_every_structure_is_refused() -> None:
    for length in range(108):
        with pytest.raises(LayoutError, match="empty file" if length == 0 else "truncated"):
            parse_header(pack_header(HEADER)[:length])
    for length in range(64):
        with pytest.raises(LayoutError):
            parse_heartbeat(pack_heartbeat(HEARTBEAT)[:length])
        with pytest.raises(LayoutError):
            parse_slot_header(pack_slot_header(SLOT)[:length])


def test_a_newer_major_version_asks_for_a_newer_viewer() -> None:
    newer = resealed(pack_header(HEADER), 8, struct.pack("<HH", 2, 5), 104)
    with pytest.raises(NewerFormatError, match=r"format 2\.5: needs a newer gpumodels-tui"):
        parse_header(newer)


def test_a_version_before_the_first_is_unknown() -> None:
    with pytest.raises(LayoutError, match="unknown") as refused:
        parse_header(resealed(pack_header(HEADER), 8, b"\0\0", 104))
    assert not isinstance(refused.value, NewerFormatError)


def test_a_newer_minor_version_is_read() -> None:
    assert parse_header(resealed(pack_header(HEADER), 10, b"\x09\0", 104)) == replace(HEADER, minor=9)


@pytest.mark.parametrize("garbage", [b"", b"\0" * 4096, b"GIF89a".ljust(4096), b"\xff" * 4096, b"\x89GPM\n\x1a\n".ljust(4096)])
def test_what_is_no_header_is_refused(garbage: bytes) -> None:
    with pytest.raises(LayoutError):
        parse_header(garbage)


@pytest.mark.parametrize(
    ("offset", "change"),
    [
        (12, struct.pack("<I", 0)),
        (12, struct.pack("<I", 8192)),
        (16, struct.pack("<I", 0)),
        (16, struct.pack("<I", 64)),
        (16, struct.pack("<I", MAX_SLOT_BYTES + 1)),
        (16, struct.pack("<I", 2**32 - 1)),
        (24, struct.pack("<Q", 0)),
        (24, struct.pack("<Q", 2**63)),
        (32, struct.pack("<Q", 4096)),
    ],
)
def test_impossible_sizes_and_offsets_are_refused_despite_a_right_checksum(offset: int, change: bytes) -> None:
    with pytest.raises(LayoutError, match=r"impossible sizes|wrong slot offsets"):
        parse_header(resealed(pack_header(HEADER), offset, change, 104))


@pytest.mark.parametrize("slot_bytes", [0, 1, 64, MAX_SLOT_BYTES + 1, 2**32 - 1])
def test_slots_too_small_or_large_are_refused_though_all_else_fits_them(slot_bytes: int) -> None:
    with pytest.raises(LayoutError, match=f"impossible sizes: header 4096, slot {slot_bytes}"):
        parse_header(pack_header(replace(HEADER, slot_bytes=slot_bytes)))


def test_a_slot_that_was_never_written_and_a_state_that_is_unknown_are_refused() -> None:
    with pytest.raises(LayoutError):
        parse_slot_header(bytes(64))
    with pytest.raises(LayoutError, match="empty slot"):
        parse_slot_header(resealed(bytes(64), 0, b"", 60))
    with pytest.raises(LayoutError, match="unknown writer state 9"):
        parse_heartbeat(resealed(pack_heartbeat(HEARTBEAT), 16, b"\x09", 60))
