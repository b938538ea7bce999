"""Many writing processes, forked: each publishes at the same rate, outgrows its file now and then, and starts by cleaning up.

Arguments: directory, processes, publications a second. Prints `ready` when all have published; ends with its standard input.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from gpumodels_shared.cleaning import clean_dead_files
from gpumodels_shared.codec import encode
from gpumodels_shared.identity import this_process
from gpumodels_shared.writer import SnapshotWriter
from snapshots import a_model, a_process, a_snapshot


def write(directory: Path, rate: float) -> None:
    """The child: never returns."""
    writer = SnapshotWriter(directory, this_process(), int(1000 / rate))
    chance = random.Random(os.getpid())
    small = a_snapshot(a_model(), process=replace(a_process(), pid=os.getpid()))
    large = replace(small, warnings=("long",) * 9_999)
    tick = 0
    while True:
        tick += 1
        writer.publish(encode(large if chance.random() < 0.02 else small))
        if tick == 1 or chance.random() < 0.1:
            clean_dead_files(directory, max_dead_files=5)
        time.sleep(1 / rate)


def main(directory: Path, processes: int, rate: float) -> None:
    """Fork the writers, wait for the end of standard input, and end them."""
    children = []
    for _ in range(processes):
        child = os.fork()
        if child == 0:
            write(directory, rate)
        children.append(child)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
