"""What tests of the mapped file do to it from outside, and where they know things to lie in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gpumodels_shared.reader import Payload, SnapshotReader
from gpumodels_shared.writer import SMALLEST_SLOT_BYTES

CAPACITY: Final = SMALLEST_SLOT_BYTES - 64
"""The longest payload of a fresh file."""
SLOTS: Final = (4096, 4096 + SMALLEST_SLOT_BYTES)
"""Where a fresh file's slots begin."""


def latest(reader: SnapshotReader) -> Payload:
    """The newest snapshot, which must be there."""
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
