"""Reads one file as fast as it can while others write it, and checks all that is accepted.

Arguments: directory, seconds, how many snapshots to see at least. Waits for the first file. Prints one JSON object; times are in
microseconds, by percentile.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from pathlib import Path

from gpumodels_shared.layout import WriterState
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader, TornError
from gpumodels_tui.sources.checksum import crc32

LONGEST_SECONDS = 60.0
"""The longest time to wait for the least number of snapshots, on a slow machine."""


class Times:
    """Counts durations by the microsecond, for percentiles of any number of them."""

    def __init__(self) -> None:
        self._counts = [0] * 100_001

    def add(self, seconds: float) -> None:
        """Count one more duration."""
        self._counts[min(int(seconds * 1e6), 100_000)] += 1

    def percentile(self, share: float) -> int:
        """The microseconds below which this share of durations lies."""
        wanted = share * sum(self._counts)
        seen = 0
        for microseconds, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return microseconds
        return 0


def main(directory: Path, seconds: float, least: int) -> None:
    """Read until the time is up and more than the least number of snapshots were seen."""
    while not (names := snapshot_files(directory)):
        time.sleep(0.005)
    reader = SnapshotReader(directory / names[0], os.geteuid(), crc32)
    wall, processor = Times(), Times()
    accepted = distinct = torn = bad = backward = last = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end or (distinct <= least and time.monotonic() < end + LONGEST_SECONDS):
        if reader.heartbeat().state is WriterState.SUPERSEDED:
            reader.close()
            reader = SnapshotReader(directory / names[0], os.geteuid(), crc32)
        started, started_cpu = time.perf_counter(), time.thread_time()
        try:
            payload = reader.latest()
        except TornError:
            torn += 1
            continue
        finally:
            wall.add(time.perf_counter() - started)
            processor.add(time.thread_time() - started_cpu)
        if payload is None:
            continue
        accepted += 1
        bad += payload.data != struct.pack("<Q", payload.seq) * (len(payload.data) // 8)
        backward += payload.seq < last
        distinct += payload.seq > last
        last = max(last, payload.seq)
    figures = {
        "accepted": accepted,
        "distinct": distinct,
        "torn": torn,
        "bad": bad,
        "backward": backward,
        "wall_p50": wall.percentile(0.5),
        "wall_p99": wall.percentile(0.99),
        "processor_p50": processor.percentile(0.5),
        "processor_p99": processor.percentile(0.99),
    }
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
