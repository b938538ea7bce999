"""Many readers and a writer that is killed, publishes flat out, or outgrows its file: nothing torn or old is accepted."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from gpumodels_shared.identity import this_process
from gpumodels_shared.layout import WriterState
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.writer import SnapshotWriter

Reached = Callable[[str, str], None]

PROGRAMS: Final = Path(__file__).parent / "programs"
READERS: Final = 8
PAYLOAD_BYTES: Final = 256 * 1024


@pytest.fixture
def private(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def program(name: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start one of the programs in `programs/`."""
    command = [sys.executable, "-W", "error", str(PROGRAMS / f"{name}.py"), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def figures_of(child: subprocess.Popen[str]) -> dict[str, Any]:
    """End the program by closing its input, and return what it printed."""
    printed, _ = child.communicate()
    assert child.returncode == 0
    figures: dict[str, Any] = json.loads(printed)
    return figures


def test_a_killed_writer_leaves_its_newest_snapshot_whole(shared_memory: Path, reached: Reached, full: bool) -> None:
    count = 10_000 if full else 200
    figures = figures_of(program("kill_writers", shared_memory, count))
    verdicts = figures["verdicts"]
    bad = sum(number for verdict, number in verdicts.items() if verdict.startswith("bad"))
    early = sum(number for verdict, number in verdicts.items() if verdict.startswith("killed before"))
    reached(
        "kill", f"{count:,} kills: {bad} bad accepts, {verdicts['whole']:,} with their newest snapshot, {early} before the first"
    )
    assert bad == 0, verdicts
    assert verdicts["whole"] >= 0.5 * count  # every other one is killed only after its first snapshot
    assert figures["newest"] > 20 or not full


def test_a_flat_out_writer_makes_no_reader_accept_what_is_torn(shared_memory: Path, reached: Reached, full: bool) -> None:
    seconds = 600 if full else 3
    writer = program("write_flat_out", shared_memory, PAYLOAD_BYTES, 0)
    readers = [program("read_flat_out", shared_memory, seconds, 100) for _ in range(READERS)]
    read = [figures_of(reader) for reader in readers]
    written = figures_of(writer)
    total = {key: sum(one[key] for one in read) for key in ("accepted", "distinct", "torn", "bad", "backward")}
    worst = {key: max(one[key] for one in read) for key in ("wall_p50", "wall_p99", "processor_p50", "processor_p99")}
    reached(
        "flat out",
        f"{seconds} s, {written['published']:,} published, {total['accepted']:,} read: {total['bad']} bad, "
        f"{total['backward']} backward, {total['torn']} given up; worst reader's processor time per read "
        f"p50 {worst['processor_p50']} µs, p99 {worst['processor_p99']} µs "
        f"(wall p50 {worst['wall_p50']} µs, p99 {worst['wall_p99']} µs with {READERS + 1} processes on {os.cpu_count()} cores)",
    )
    assert (total["bad"], total["backward"]) == (0, 0)
    assert total["distinct"] > 100
    assert total["torn"] < total["accepted"] / 10


def test_a_quiet_machines_read_is_quick(shared_memory: Path, reached: Reached, full: bool) -> None:
    writer = program("write_flat_out", shared_memory, PAYLOAD_BYTES, 20)
    read = figures_of(program("read_flat_out", shared_memory, 1, 10))
    figures_of(writer)
    reached("flat out", f"one reader, 20 snapshots a second: p50 {read['wall_p50']} µs, p99 {read['wall_p99']} µs")
    assert (read["bad"], read["backward"]) == (0, 0)
    assert read["distinct"] > 10
    assert read["wall_p50"] < 1000 or not full


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_publishing_costs_little(shared_memory: Path, private: Path, place: str, reached: Reached, full: bool) -> None:
    writer = program("write_flat_out", shared_memory if place == "memory" else private, PAYLOAD_BYTES, 100)
    time.sleep(30 if full else 1)
    figures = figures_of(writer)  # after fifty publications at least
    reached("cost", f"{place}: p50 {figures['p50'] * 1000:.2f} ms, p99 {figures['p99'] * 1000:.2f} ms")
    assert figures["published"] >= 50
    assert figures["p99"] < 0.02 or not full


def test_readers_follow_a_writer_that_outgrows_its_file_again_and_again(
    shared_memory: Path, reached: Reached, full: bool
) -> None:
    """Each tick of this writer outgrows a file; a reader that polls must see each tick, or the one after it."""
    moves = 1000 if full else 100
    missed = bad = seen_moves = 0
    for _ in range(moves // 5):
        writer = SnapshotWriter(shared_memory, this_process(), heartbeat_ms=50)
        writer.publish(struct.pack("<Q", 1))
        acknowledged = threading.Event()
        reader = _Follower(writer.path, acknowledged)
        reader.start()
        for seq in range(2, 7):
            writer.publish(struct.pack("<Q", seq) * (4_000 * 2**seq))
            if not acknowledged.wait(30):
                missed += 1
            acknowledged.clear()
        reader.stop()
        bad += reader.bad
        seen_moves += len(reader.seen - {1})
        writer.close()
        writer.path.unlink()
    reached("outgrown", f"{moves:,} moves to a larger file, {seen_moves:,} seen by the reader, {missed} ticks missed, {bad} bad")
    assert (bad, missed) == (0, 0)
    assert seen_moves == moves


class _Follower(threading.Thread):
    """Polls a file by its name, as a viewer does, and sets `acknowledged` whenever it sees a newer snapshot."""

    def __init__(self, path: Path, acknowledged: threading.Event) -> None:
        super().__init__()
        self._path = path
        self._acknowledged = acknowledged
        self._stopping = threading.Event()
        self.seen: set[int] = {1}
        self.bad = 0

    def run(self) -> None:
        reader = SnapshotReader(self._path, os.geteuid())
        while not self._stopping.is_set():
            if reader.heartbeat().state is WriterState.SUPERSEDED:
                reader.close()
                reader = SnapshotReader(self._path, os.geteuid())
            payload = reader.latest()
            assert payload is not None
            self.bad += payload.data != struct.pack("<Q", payload.seq) * (len(payload.data) // 8)
            self.bad += payload.seq < max(self.seen)
            if payload.seq not in self.seen:
                self.seen.add(payload.seq)
                self._acknowledged.set()
        reader.close()

    def stop(self) -> None:
        self._stopping.set()
        self.join()
