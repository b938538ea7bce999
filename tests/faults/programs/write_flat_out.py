"""Publishes self-describing payloads as fast as it can, or so many a second, until its standard input ends.

Arguments: directory, payload bytes, publications a second (0: flat out).
Prints how many, and what a publication cost, as one JSON object.
"""

from __future__ import annotations

import json
import select
import struct
import sys
import time
from pathlib import Path

from gpumodels_shared.identity import this_process
from gpumodels_shared.writer import SnapshotWriter

LEAST = 50
"""At least so many payloads are published in any case."""


def main(directory: Path, size: int, rate: float) -> None:
    """Publish until standard input ends."""
    writer = SnapshotWriter(directory, this_process(), heartbeat_ms=250)
    seq = 0
    costs: list[float] = []
    while not (seq % 16 == 0 or rate) or not select.select([sys.stdin], [], [], 1 / rate if rate else 0)[0] or seq < LEAST:
        seq += 1
        payload = struct.pack("<Q", seq) * (size // 8)
        started = time.perf_counter()
        writer.publish(payload)
        if len(costs) < 200_000:
            costs.append(time.perf_counter() - started)
    writer.close()
    costs.sort()
    sys.stdout.write(json.dumps({"published": seq, "p50": costs[len(costs) // 2], "p99": costs[len(costs) * 99 // 100]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
