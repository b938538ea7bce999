"""Packs and parses the bytes of the mapped file; no other module knows its layout. All numbers are little-endian.

Page 0 (4096 bytes), written once, before the file is renamed to its final name::

      0  8s   magic              \\x89GPM\\r\\n\\x1a\\n
      8  u16  major              readers refuse a newer one
     10  u16  minor              additive changes
     12  u32  header length      4096
     16  u32  slot size          slot header and payload
     20  u32  heartbeat ms       how often the writer beats
     24  u64  slot 0 offset
     32  u64  slot 1 offset
     40  u32  pid                as the writer sees itself
     44  u32  uid
     48  u64  start ticks        /proc/<pid>/stat field 22; 0 unknown
     56  u64  pid namespace      its inode; 0 unknown
     64  16s  boot id            zeros unknown
     80  16s  instance id        random, one per file
     96  u64  created            realtime ns
    104  u32  crc32 of bytes 0-103
    108       zeros

The magic, major, minor and this crc keep their offsets in every version, so that an old reader can name a newer one.

Heartbeat, at 128, 64 bytes, rewritten at every beat::

      0  u64  beat               counts up
      8  u64  realtime ns
     16  u32  state              1 starting, 2 running, 3 exited, 4 superseded
     20  u32  last errno         0 none
     24  u64  snapshots dropped
     32  u64  last seq           of the newest published slot; 0 none yet
     40       zeros
     60  u32  crc32 of its bytes 0-59

Slot: a 64-byte header, then the payload; snapshot `seq` lives in slot `seq & 1`::

      0  u64  seq
      8  u32  payload length
     12  u32  encoding           0 msgpack
     16  u64  realtime ns
     24  u32  payload crc32
     28       zeros
     60  u32  crc32 of its bytes 0-59

Guarantees:

- The file has its full length, allocated, from the moment that it has its final name, and never shrinks.
- From the first snapshot on, one slot holds a complete snapshot at any time, even if the writer is killed: a slot's payload is
  written before its header, and while one slot is being written, the other is left alone.
- Every structure carries a crc, by which a reader recognises a half-written one. Structures are written by slice assignment of
  prepared bytes, never field by field: `struct.pack_into` on a mapping lets a concurrent reader see zeros.
- The writer holds an exclusive flock for as long as it lives, and releases it after writing state 3 or 4: an unlocked file in
  another state is that of a killed writer. The heartbeat is written every `heartbeat ms`; its times are for people, while
  readers judge liveness by their own clock.
- A payload that outgrows its slot goes to a larger file, which takes the name by a rename, with the next `seq`; after that, state
  4 is written to the old file. A reader that then opens the name again finds a snapshot at least as new as any that it has seen.
- Only the writer's user can read the file (mode 0600), unless `GPUMODELS_GROUP` gave it to a group (0640).

Compatibility: a minor version only adds: a meaning for bytes that are zeros here, or keys with defaults in the payload's maps.
Readers ignore what they don't know. Anything else needs a new major version, which older readers refuse by its number.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import Final

from gpumodels_shared.records import Record

MAGIC: Final = b"\x89GPM\r\n\x1a\n"
MAJOR: Final = 1
MINOR: Final = 3
HEADER_BYTES: Final = 4096
HEARTBEAT_OFFSET: Final = 128
HEARTBEAT_BYTES: Final = 64
SLOT_HEADER_BYTES: Final = 64
MAX_SLOT_BYTES: Final = 64 * 1024 * 1024
"""The largest slot that a writer creates; a header with a larger one is damaged."""
ENCODING_MSGPACK: Final = 0

_HEADER: Final = struct.Struct("<8sHHIIIQQIIQQ16s16sQ")
_HEARTBEAT: Final = struct.Struct("<QQIIQQ20x")
_SLOT: Final = struct.Struct("<QIIQI32x")
_CRC: Final = struct.Struct("<I")


class LayoutError(ValueError):
    """The bytes are not the expected structure; the text says why, in one line."""


class NewerFormatError(LayoutError):
    """The file has a newer major version than this code can read."""


class WriterState(IntEnum):
    """The state that the writer last wrote; whether it is still alive is determined by `liveness`."""

    STARTING = 1
    RUNNING = 2
    EXITED = 3
    SUPERSEDED = 4
    """A larger file has taken this one's name."""


class Header(Record):
    """Page 0: who writes the file, and where its slots are."""

    slot_bytes: int
    heartbeat_ms: int
    pid: int
    uid: int
    start_ticks: int
    pid_namespace: int
    boot_id: bytes
    instance_id: bytes
    created_ns: int
    minor: int = MINOR

    @property
    def file_bytes(self) -> int:
        """The total length of the file."""
        return HEADER_BYTES + 2 * self.slot_bytes

    @property
    def payload_capacity(self) -> int:
        """The size of the largest payload that fits into a slot."""
        return self.slot_bytes - SLOT_HEADER_BYTES

    def slot_offset(self, seq: int) -> int:
        """The offset in the file of the slot for snapshot `seq`."""
        return HEADER_BYTES + (seq & 1) * self.slot_bytes


class Heartbeat(Record):
    """The writer's sign of life, as rewritten at every beat."""

    beat: int
    realtime_ns: int
    state: WriterState
    last_errno: int = 0
    dropped: int = 0
    last_seq: int = 0


class SlotHeader(Record):
    """The header that precedes a slot's payload."""

    seq: int
    length: int
    realtime_ns: int
    payload_crc: int
    encoding: int = ENCODING_MSGPACK


def pack_header(header: Header) -> bytes:
    """Page 0, 4096 bytes, with zeros for the heartbeat."""
    body = _HEADER.pack(
        MAGIC,
        MAJOR,
        header.minor,
        HEADER_BYTES,
        header.slot_bytes,
        header.heartbeat_ms,
        header.slot_offset(0),
        header.slot_offset(1),
        header.pid,
        header.uid,
        header.start_ticks,
        header.pid_namespace,
        header.boot_id,
        header.instance_id,
        header.created_ns,
    )
    return _with_crc(body).ljust(HEADER_BYTES, b"\0")


def parse_header(data: bytes) -> Header:
    """The header from at least the first 108 bytes of page 0.

    Raises:
        NewerFormatError: the file has a newer major version.
        LayoutError: it isn't a valid header of this version.
    """
    if len(data) < _HEADER.size + _CRC.size:
        raise LayoutError("empty file" if not data else f"truncated: {len(data)} bytes, incomplete header")
    fields = _HEADER.unpack_from(data)
    magic, major, minor, length, slot_bytes, heartbeat_ms, offset0, offset1 = fields[:8]
    pid, uid, start_ticks, pid_namespace, boot_id, instance_id, created_ns = fields[8:]
    if magic != MAGIC:
        raise LayoutError("not a gpumodels file (wrong magic)")
    if major != MAJOR:
        if major > MAJOR and _has_valid_crc(data, _HEADER.size):
            raise NewerFormatError(f"format {major}.{minor}: needs a newer gpumodels-tui")
        raise LayoutError(f"format {major}.{minor} is unknown")
    if not _has_valid_crc(data, _HEADER.size):
        raise LayoutError("damaged header (crc)")
    header = Header(slot_bytes, heartbeat_ms, pid, uid, start_ticks, pid_namespace, boot_id, instance_id, created_ns, minor)
    if length != HEADER_BYTES or not SLOT_HEADER_BYTES < slot_bytes <= MAX_SLOT_BYTES:
        raise LayoutError(f"impossible sizes: header {length}, slot {slot_bytes}")
    if (offset0, offset1) != (header.slot_offset(0), header.slot_offset(1)):
        raise LayoutError("wrong slot offsets")
    return header


def pack_heartbeat(heartbeat: Heartbeat) -> bytes:
    """The 64 bytes to write at HEARTBEAT_OFFSET."""
    return _with_crc(
        _HEARTBEAT.pack(
            heartbeat.beat,
            heartbeat.realtime_ns,
            heartbeat.state,
            heartbeat.last_errno,
            heartbeat.dropped,
            heartbeat.last_seq,
        )
    )


def parse_heartbeat(data: bytes) -> Heartbeat:
    """The heartbeat from its 64 bytes.

    Raises:
        LayoutError: it is too short, half written, or has an unknown state.
    """
    if len(data) < HEARTBEAT_BYTES or not _has_valid_crc(data, _HEARTBEAT.size):
        raise LayoutError("damaged heartbeat")
    beat, realtime_ns, state, last_errno, dropped, last_seq = _HEARTBEAT.unpack_from(data)
    try:
        writer_state = WriterState(state)
    except ValueError as error:
        raise LayoutError(f"unknown writer state {state}") from error
    return Heartbeat(beat, realtime_ns, writer_state, last_errno, dropped, last_seq)


def pack_slot_header(slot: SlotHeader) -> bytes:
    """The 64 bytes to write at the slot's offset."""
    return _with_crc(_SLOT.pack(slot.seq, slot.length, slot.encoding, slot.realtime_ns, slot.payload_crc))


def parse_slot_header(data: bytes) -> SlotHeader:
    """A slot's header from its 64 bytes.

    Raises:
        LayoutError: it is too short, half written, or was never written.
    """
    if len(data) < SLOT_HEADER_BYTES or not _has_valid_crc(data, _SLOT.size):
        raise LayoutError("incomplete slot header")
    seq, length, encoding, realtime_ns, payload_crc = _SLOT.unpack_from(data)
    if seq == 0:
        raise LayoutError("empty slot")
    return SlotHeader(seq, length, realtime_ns, payload_crc, encoding)


def payload_crc(payload: bytes) -> int:
    """The crc32 of a payload, for its slot header."""
    return zlib.crc32(payload)


def _with_crc(body: bytes) -> bytes:
    return body + _CRC.pack(zlib.crc32(body))


def _has_valid_crc(data: bytes, size: int) -> bool:
    (stored,) = _CRC.unpack_from(data, size)
    return bool(stored == zlib.crc32(data[:size]))
