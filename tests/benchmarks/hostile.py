"""How long bombs and traps take to refuse, as ratios to reading good files. Tests count the work; this measures the time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from faults.test_damage import BOMBS
from faults.test_traps import ME, NEEDS_ROOT, TRAPS
from gpumodels_shared.codec import encode
from gpumodels_shared.decoding import DecodeError, decode
from gpumodels_tui.sources.feed import SnapshotFeed
from snapshots import a_model, a_snapshot, a_tree, an_identity, published

ROUNDS: Final = 7
PROMISED_PER_BYTE: Final = 2.0
PROMISED_POLL: Final = 3.0


def best(work: Callable[[], object]) -> float:
    """Seconds of processor time, in the quickest of some rounds."""
    times = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        work()
        times.append(time.thread_time() - started)
    return min(times)


def refuse(payload: bytes) -> None:
    """Decode a payload that is refused."""
    with suppress(DecodeError):
        decode(payload)


def poll_once(directory: Path) -> None:
    """Poll a directory once, as a viewer that has just been started."""
    feed = SnapshotFeed([directory])
    feed.poll()
    feed.close()


def main() -> None:
    """Print a line for bombs and one for traps."""
    good = encode(a_snapshot(a_model("large", tree=a_tree({f"layers.{number}.attention": 512 for number in range(40_000)}))))
    reading = best(lambda: decode(good))
    seconds, name = max((best(partial(refuse, payload)), name) for name, payload in BOMBS.items())
    per_byte = seconds / len(BOMBS[name]) / (reading / len(good))
    print(
        f"slowest of {len(BOMBS)} bombs ({name}, {len(BOMBS[name]) / 2**20:.1f} MB): {seconds * 1000:.1f} ms; a byte of it takes "
        f"{per_byte:.2f} x one of a good snapshot of {len(good) / 2**20:.1f} MB (promised {PROMISED_PER_BYTE:g})",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as place:
        directory, elsewhere = Path(place) / "files", Path(place) / "elsewhere"
        for made in (directory, elsewhere):
            made.mkdir(mode=0o700)
        target = published(elsewhere, a_snapshot(a_model("elsewhere")), an_identity(66))
        neighbour = published(directory, a_snapshot(a_model("good")), an_identity(55))
        alone = best(partial(poll_once, directory))
        slowest = (0.0, "")
        for kind, make in TRAPS.items():
            if kind in NEEDS_ROOT and ME != 0:
                continue
            trap = directory / "1-1-aaaaaaaa.gpm"
            make(trap, target.path)
            slowest = max(slowest, (best(partial(poll_once, directory)), kind))
            trap.rmdir() if trap.is_dir() and not trap.is_symlink() else trap.unlink()
        neighbour.close()
        target.close()
    print(
        f"slowest poll of a good file beside a trap ({slowest[1]}): {slowest[0] / alone:.2f} x a poll of the good file alone "
        f"(promised {PROMISED_POLL:g})"
    )
