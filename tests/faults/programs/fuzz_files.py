"""Mutates a snapshot file in every way it knows and has the viewer's follower read each; what is accepted goes on to the view.

Arguments: directory, how many, seed. Prints one JSON object. Half of the mutations carry right checksums, or nothing behind the
first check would ever be met. Its own process, so that the memory it took is the reading's.
"""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gpumodels_shared.layout import HEADER_BYTES, HEARTBEAT_OFFSET, SLOT_HEADER_BYTES
from gpumodels_tui import json_output
from gpumodels_tui.oneshot import Snapshots, table
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.sources.tailing import TailedFile
from gpumodels_tui.view.builder import build_view
from snapshots import NOON_NS, a_catalogue, a_feed, a_gpu, a_model, a_process_state, a_snapshot, a_tree, published, some_hardware

HARDWARE: Final = some_hardware(a_gpu())
NOTHING_KNOWN: Final = a_catalogue()

SEALED_HEADER: Final = 104
SEALED_SLOT: Final = 60

INTERESTING: Final = (
    b"\xdd\xff\xff\xff\xff",  # an array of 4 G entries
    b"\xdf\xff\xff\xff\xff",  # a map of them
    b"\xdb\xff\xff\xff\xff",  # 4 GB of text
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\x00\x00\x00\x10\x01",  # ext
    b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
    b"\xc1",  # never used
    b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00",  # infinity
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # not a number
    b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",  # -2⁶³
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xa4\xff\xfe\xed\xa0",  # no UTF-8
    b"\x91" * 2000,
    b"\xc0",
    b"\x90",
    b"\x80",
)


class Fuzzer:
    """A snapshot file, a good image of it, and mutations of that."""

    def __init__(self, directory: Path, seed: int) -> None:
        tree = a_tree({f"blocks.{index}.attn": 512 for index in range(12)})
        snapshot = a_snapshot(a_model(tree=tree, metadata={"modelspec.title": "Wan"}), a_model("vae", 1 << 20, "vae"))
        writer = published(directory, snapshot)
        writer.abandon()
        self.path = writer.path
        self._image = self.path.read_bytes()
        self._slot = HEADER_BYTES + (len(self._image) - HEADER_BYTES) // 2
        (self._length,) = struct.unpack_from("<I", self._image, self._slot + 8)
        self._used = (0, 192), (self._slot, self._slot + SLOT_HEADER_BYTES + self._length)
        self._random = random.Random(seed)
        self._descriptor = os.open(self.path, os.O_RDWR)
        self._kinds: tuple[Callable[[bytearray], None], ...] = (
            self._flip_bits,
            self._flip_bits,
            self._set_header_field,
            self._set_heartbeat,
            self._set_slot_header,
            self._spoil_payload,
            self._spoil_payload,
            self._splice_payload,
            self._splice_payload,
            self._resize,
        )

    def next(self) -> None:
        """Put the next mutation into the file."""
        image = bytearray(self._image)
        self._random.choice(self._kinds)(image)
        for start, end in self._used:
            os.pwrite(self._descriptor, image[start:end], start)
        end = self._used[1][1]
        os.pwrite(self._descriptor, image[end : end + 4096], end)
        if len(image) != len(self._image):
            os.ftruncate(self._descriptor, len(image) if len(image) < len(self._image) else 1 << self._random.randrange(18, 34))

    def restore(self) -> None:
        """Put the good image back into the file."""
        os.ftruncate(self._descriptor, len(self._image))
        for start, end in self._used:
            os.pwrite(self._descriptor, self._image[start : end + 4096], start)

    def _flip_bits(self, image: bytearray) -> None:
        for _ in range(self._random.randrange(1, 9)):
            start, end = self._random.choice(self._used)
            image[self._random.randrange(start, end)] ^= 1 << self._random.randrange(8)

    def _number(self, size: int) -> bytes:
        chosen = self._random.choice((0, 1, 255, 4096, 1 << 31, (1 << 64) - 1, self._random.getrandbits(64)))
        return struct.pack("<Q", chosen)[:size]

    def _set_header_field(self, image: bytearray) -> None:
        offset, size = self._random.choice(((8, 2), (10, 2), (12, 4), (16, 4), (20, 4), (24, 8), (40, 4), (48, 8), (56, 8)))
        image[offset : offset + size] = self._number(size)
        struct.pack_into("<I", image, SEALED_HEADER, zlib.crc32(image[:SEALED_HEADER]))

    def _set_heartbeat(self, image: bytearray) -> None:
        offset, size = self._random.choice(((0, 8), (8, 8), (16, 4), (20, 4), (24, 8), (32, 8)))
        image[HEARTBEAT_OFFSET + offset : HEARTBEAT_OFFSET + offset + size] = self._number(size)
        sealed = zlib.crc32(image[HEARTBEAT_OFFSET : HEARTBEAT_OFFSET + 60])
        struct.pack_into("<I", image, HEARTBEAT_OFFSET + 60, sealed)

    def _seal_slot(self, image: bytearray) -> None:
        struct.pack_into("<I", image, self._slot + SEALED_SLOT, zlib.crc32(image[self._slot : self._slot + SEALED_SLOT]))

    def _set_slot_header(self, image: bytearray) -> None:
        offset, size = self._random.choice(((0, 8), (8, 4), (12, 4), (16, 8), (24, 4)))
        image[self._slot + offset : self._slot + offset + size] = self._number(size)
        self._seal_slot(image)

    def _put_payload(self, image: bytearray, payload: bytes) -> None:
        start = self._slot + SLOT_HEADER_BYTES
        payload = payload[: self._length + 4096]
        image[start : start + len(payload)] = payload
        struct.pack_into("<I", image, self._slot + 8, len(payload))
        struct.pack_into("<I", image, self._slot + 24, zlib.crc32(payload))
        self._seal_slot(image)

    def _payload(self) -> bytearray:
        start = self._slot + SLOT_HEADER_BYTES
        return bytearray(self._image[start : start + self._length])

    def _spoil_payload(self, image: bytearray) -> None:
        payload = self._payload()
        for _ in range(self._random.randrange(1, 5)):
            payload[self._random.randrange(len(payload))] = self._random.getrandbits(8)
        self._put_payload(image, bytes(payload))

    def _splice_payload(self, image: bytearray) -> None:
        payload = self._payload()
        at = self._random.randrange(len(payload))
        until = at + self._random.choice((0, 1, 2, 9, 100))
        source = self._random.randrange(len(payload))
        piece = self._random.choice((*INTERESTING, bytes(payload[source : source + self._random.randrange(200)])))
        payload[at:until] = piece
        self._put_payload(image, bytes(payload))

    def _resize(self, image: bytearray) -> None:
        if self._random.random() < 0.5:
            del image[self._random.randrange(len(image)) :]
        else:
            image += b"more"


def show(process: ProcessState) -> None:
    """Pass a snapshot through all that a viewer prints."""
    feed = a_feed(process)
    glance = Snapshots(feed, HARDWARE, NOTHING_KNOWN, NOON_NS)
    json_output.text(glance)
    table(build_view(feed, HARDWARE, NOTHING_KNOWN), NOON_NS)


def most_memory() -> int:
    """The most that this process ever had resident, in bytes; `ru_maxrss` would count the one that started it, too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: in bytes


def main(directory: Path, count: int, seed: int) -> None:
    """Write and read so many mutations."""
    directory.chmod(0o700)
    fuzzer = Fuzzer(directory, seed)
    owner = os.geteuid()
    reasons: dict[str, int] = {}
    longest = 0.0
    shown = 0
    for number in range(count):
        fuzzer.next()
        started = time.perf_counter()
        try:
            tail = TailedFile(fuzzer.path, owner)
            tail.refresh(1000.0)
            tail.refresh(1001.0)
            if tail.snapshot is not None:
                shown += 1
                show(a_process_state(tail.snapshot, tail.liveness))
            reason = "shown" if tail.problem is None else tail.problem.split(":")[0][:24]
            tail.close()
        except Exception:
            sys.stderr.write(f"file {number} of seed {seed}\n")
            raise
        longest = max(longest, time.perf_counter() - started)
        reasons[reason] = reasons.get(reason, 0) + 1
        fuzzer.restore()
    figures = {
        "longest": longest,
        "shown": shown,
        "reasons": reasons,
        "memory": most_memory(),
    }
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
