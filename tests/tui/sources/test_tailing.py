"""Tests of one sidecar's file, followed: what is read when, and what is said of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumodels_shared.codec import encode
from gpumodels_shared.layout import HEARTBEAT_BYTES
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.sources.tailing import CHECK_SECONDS, TailedFile
from snapshots import a_model, a_snapshot, an_identity, published
from work import counted

FIRST, SECOND = a_snapshot(a_model("first")), a_snapshot(a_model("second"))
START = 1000.0
"""What the clock of whoever looks shows at the first look."""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SnapshotWriter]:
    """Beats once a second, when it is told to."""
    writer = published(tmp_path, FIRST)
    yield writer
    writer.abandon()


@pytest.fixture
def tail(writer: SnapshotWriter) -> Iterator[TailedFile]:
    """Its file, looked at once."""
    tail = TailedFile(writer.path, os.geteuid())
    tail.refresh(START)
    yield tail
    tail.close()


def test_each_piece_of_news_counts_once(writer: SnapshotWriter, tail: TailedFile) -> None:
    before, snapshot = tail.version, tail.snapshot
    assert (snapshot, tail.liveness, tail.problem, tail.pid) == (FIRST, Liveness.LIVE, None, 4711)
    tail.refresh(START + 0.1)
    writer.beat()
    tail.refresh(START + 0.2)
    assert tail.snapshot is snapshot
    assert tail.version == before
    writer.publish(encode(SECOND))
    tail.refresh(START + 0.3)
    assert (tail.snapshot, tail.version) == (SECOND, before + 1)


def test_a_look_that_finds_no_news_reads_the_heartbeat_alone(writer: SnapshotWriter, tail: TailedFile) -> None:
    with counted() as still:
        tail.refresh(START + 0.1)
    writer.beat()
    with counted() as beating:
        tail.refresh(START + 0.2)
    assert (still.bytes_read, beating.bytes_read) == (HEARTBEAT_BYTES, HEARTBEAT_BYTES)


def test_silence_is_an_age_after_three_beats_a_stall_just_after_ten_and_the_next_beat_ends_it(
    writer: SnapshotWriter, tail: TailedFile
) -> None:
    seen = []
    for seconds in (2.9, 3.51, 4.6, 9.9, 10.01, 10.1):
        tail.refresh(START + seconds)
        seen.append((tail.liveness, tail.late_seconds))
    assert [state for state, _ in seen] == [Liveness.LIVE] * 4 + [Liveness.STALLED] * 2
    assert [late for _, late in seen] == [None, 3, 4, 9, None, None]
    versions = tail.version
    writer.beat()
    tail.refresh(START + 10.2)
    assert (tail.liveness, tail.late_seconds) == (Liveness.LIVE, None)
    assert tail.version > versions


def test_a_file_that_is_not_there_is_looked_for_at_times_and_followed_when_it_comes(writer: SnapshotWriter) -> None:
    later = writer.path.with_name("1-1-later.gpm")
    tail = TailedFile(later, os.geteuid())
    tail.refresh(START)
    assert tail.problem == "No such file or directory"
    writer.path.rename(later)
    seen = []
    for seconds in (CHECK_SECONDS / 2, CHECK_SECONDS):
        tail.refresh(START + seconds)
        seen.append((tail.problem, tail.snapshot))
    assert seen == [("No such file or directory", None), (None, FIRST)]
    tail.close()


def test_a_file_of_another_owner_is_not_read(writer: SnapshotWriter) -> None:
    tail = TailedFile(writer.path, os.geteuid() + 1)
    tail.refresh(START)
    assert tail.snapshot is None
    assert tail.problem is not None
    assert f"belongs to uid {os.geteuid()}" in tail.problem


def test_a_pid_means_the_same_here_only_in_this_boot_and_namespace(tmp_path: Path, tail: TailedFile) -> None:
    own = published(tmp_path, FIRST, an_identity())
    ours = TailedFile(own.path, os.geteuid())
    ours.refresh(START)
    assert (ours.is_local, tail.is_local) == (True, False)
    ours.close()
    own.abandon()


def test_more_beats_tell_more_of_a_file_without_a_snapshot_and_of_one_that_is_silent(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, an_identity(7), 1000)
    tail = TailedFile(writer.path, os.geteuid())
    assert not tail.is_undecided(time.time_ns())  # nobody looked yet
    tail.refresh(START)
    assert tail.is_undecided(time.time_ns())
    writer.publish(encode(FIRST))
    tail.refresh(START + 0.1)
    assert not tail.is_undecided(time.time_ns())
    assert tail.is_undecided(time.time_ns() + 3600 * 10**9)
    writer.close()
    tail.refresh(START + 0.2)
    assert tail.liveness is Liveness.EXITED
    assert not tail.is_undecided(time.time_ns() + 3600 * 10**9)
    tail.close()


def test_a_file_that_was_let_go_is_opened_anew(writer: SnapshotWriter, tail: TailedFile) -> None:
    tail.close()
    assert tail.snapshot == FIRST
    writer.publish(encode(SECOND))
    tail.refresh(START + 10)
    assert tail.snapshot == SECOND
