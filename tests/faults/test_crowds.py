"""Many files: all live ones are found at once, and no cleaning ever removes a live one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from gpumodels_shared.cleaning import clean_dead_files
from gpumodels_shared.codec import encode
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.sources.feed import SnapshotFeed
from processes import wait_until
from snapshots import a_model, a_process, a_snapshot, an_identity, published
from work import counted

Reached = Callable[[str, str], None]

TESTS: Final = Path(__file__).parents[1]
DAY_NS: Final = 24 * 3600 * 10**9
STEPS_A_FILE: Final = 400
READ_A_FILE: Final = 4096
"""Per file in the directory: steps of Python, and bytes read, in a viewer's first poll."""


def test_sixty_four_writers_are_all_found_and_none_is_cleaned_away(shared_memory: Path, reached: Reached, full: bool) -> None:
    """All in one directory, they clean up as they start, outgrow their files and start again, as one user's sidecars do."""
    seconds = 60 if full else 2
    program = [sys.executable, str(TESTS / "faults" / "programs" / "write_in_crowd.py"), str(shared_memory), "64", "2"]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(TESTS)]))
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as crowd:
        assert crowd.stdin is not None
        assert crowd.stdout is not None
        try:
            crowd.stdout.readline()
            wait_until(lambda: len(snapshot_files(shared_memory)) == 64)
            started = time.perf_counter()
            feed = SnapshotFeed([shared_memory])
            found = feed.poll()
            found_in = time.perf_counter() - started
            assert len(found.processes) == 64, "not all are found by the first look"
            polls = 0
            pids: set[int] = set()
            slowest = 0.0
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                started = time.thread_time()
                state = feed.poll()
                slowest = max(slowest, time.thread_time() - started)
                polls += 1
                now = {row.pid for row in state.processes}
                pids |= now
                assert len(now) == 64, "a living file is gone"
                assert not state.unreadable
                assert all(row.liveness in (Liveness.LIVE, Liveness.STALLED) for row in state.processes)
                time.sleep(0.05)
            feed.close()
        finally:
            crowd.stdin.close()
            crowd.wait(30)
    assert len(pids) == 64
    reached(
        "crowd",
        f"64 writers, {seconds} s: found in {found_in * 1000:.0f} ms, slowest of {polls} polls {slowest * 1000:.0f} ms "
        "of processor time, no live file lost",
    )


def dead_and_alive(directory: Path, dead: int, alive: int) -> list[SnapshotWriter]:
    """Write files of dead and of live writers, mixed by name and age, and return the live writers."""
    writers: list[SnapshotWriter] = []
    for number in range(dead + alive):
        lives = number % ((dead + alive) // alive) == 5
        pid = 1000 + number
        snapshot = a_snapshot(a_model(f"model {pid}"), process=replace(a_process(), pid=pid))
        writer = published(directory, snapshot, an_identity(pid))
        if lives and len(writers) < alive:
            writers.append(writer)
        else:
            writer.abandon()
    assert len(writers) == alive
    return writers


def test_ten_living_are_found_beside_a_thousand_dead_and_survive_the_cleaning(
    shared_memory: Path, reached: Reached, full: bool
) -> None:
    writers = dead_and_alive(shared_memory, 1000, 10)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        feed = SnapshotFeed([shared_memory])
        state = feed.poll()
        times.append(time.perf_counter() - started)
        live = {row.path for row in state.processes if row.liveness is Liveness.LIVE}
        assert live == {writer.path for writer in writers}
        feed.close()
    found_in = sorted(times)[2]
    with counted() as work:
        feed = SnapshotFeed([shared_memory])
        feed.poll()
        feed.close()
    started = time.perf_counter()
    removed = clean_dead_files(shared_memory)
    cleaned_in = time.perf_counter() - started
    removed += clean_dead_files(shared_memory, now_ns=time.time_ns() + 2 * DAY_NS)
    for writer in writers:
        writer.publish(encode(a_snapshot(a_model("alive"))))
        assert writer.still_named()
    reached(
        "crowd",
        f"10 living beside 1,000 dead: found in {found_in * 1000:.0f} ms, {work.steps // 1010} steps a file; "
        f"{removed:,} dead removed ({cleaned_in * 1000:.0f} ms), 0 living",
    )
    assert removed == 1000
    assert len(snapshot_files(shared_memory)) == 10
    assert work.steps < STEPS_A_FILE * 1010
    assert work.bytes_read < READ_A_FILE * 1010
    for writer in writers:
        writer.close()
