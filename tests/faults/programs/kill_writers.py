"""Forks writers that publish flat out, kills each at a random moment, and checks the file that it left.

Arguments: directory, how many. Prints one JSON object. Its own process, so that what is forked is small.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

from gpumodels_shared.identity import this_process
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.writer import SnapshotWriter


def payload_of(seq: int) -> bytes:
    """A payload that would show any mixture with another one; some payloads outgrow their slots."""
    return struct.pack("<Q", seq) * (1 + seq * 977 % 20_000)


def write_flat_out(directory: Path, done: mmap.mmap) -> None:
    """The child: never returns. `done` holds the newest sequence whose publishing is over."""
    writer = SnapshotWriter(directory, this_process(), heartbeat_ms=100)
    seq = 0
    while True:
        seq += 1
        writer.publish(payload_of(seq))
        done[:8] = struct.pack("<Q", seq)


def verdict(directory: Path, pid: int, confirmed: int) -> str:
    """The state in which a killed writer left its file; anything but `bad …` is correct."""
    names = snapshot_files(directory)
    if not names:
        return "bad: no file" if confirmed else "killed before the file had its name"
    if len(names) > 1:
        return "bad: two files"
    reader = SnapshotReader(directory / names[0], os.geteuid())
    try:
        payload = reader.latest()
        heartbeat = reader.heartbeat()
        if reader.header.pid != pid or reader.is_locked():
            return "bad: another's file, or held by a dead process"
        if payload is None:
            return "bad: a snapshot is lost" if confirmed else "killed before the first snapshot"
        if payload.data != payload_of(payload.seq):
            return "bad: torn payload accepted"
        if payload.seq not in (confirmed, confirmed + 1) or heartbeat.last_seq > payload.seq:
            return "bad: not the newest"
        return "whole"
    finally:
        reader.close()


def main(directory: Path, count: int) -> None:
    """Fork and kill so many writers."""
    moments = random.Random(count)
    done = mmap.mmap(-1, 8)
    verdicts: dict[str, int] = {}
    newest = 0
    for number in range(count):
        done[:8] = bytes(8)
        child = os.fork()
        if child == 0:
            write_flat_out(directory, done)
        while number % 2 and not any(done[:8]):
            time.sleep(0.0002)  # every other one is met while it publishes, however long it takes to begin
        time.sleep(moments.uniform(0, 0.012))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        (confirmed,) = struct.unpack("<Q", done[:8])
        newest = max(newest, confirmed)
        found = verdict(directory, child, confirmed)
        verdicts[found] = verdicts.get(found, 0) + 1
        for left in directory.iterdir():
            left.unlink()
    sys.stdout.write(json.dumps({"verdicts": verdicts, "newest": newest}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
