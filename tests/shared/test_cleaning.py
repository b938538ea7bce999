"""Which files of earlier sidecars a starting sidecar removes, and which it never touches."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.cleaning import clean_dead_files
from gpumodels_shared.identity import NO_ID, this_process
from gpumodels_shared.layout import HEARTBEAT_OFFSET, Heartbeat, WriterState, pack_heartbeat
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.writer import SnapshotWriter

HOUR_NS: Final = 3600 * 10**9
NOW_NS: Final = time.time_ns()
BOOT: Final = b"this boot's id.."
EARLIER_BOOT: Final = b"an earlier boot."


def a_held_file(directory: Path, boot: bytes = BOOT, age_ns: int = 0) -> SnapshotWriter:
    """A file with a live writer, whose last beat and change were `age_ns` ago."""
    writer = SnapshotWriter(directory, this_process()._replace(boot_id=boot), heartbeat_ms=1000)
    writer.publish(b"payload")
    with writer.path.open("r+b") as file:
        file.seek(HEARTBEAT_OFFSET)
        file.write(pack_heartbeat(Heartbeat(9, NOW_NS - age_ns, WriterState.RUNNING, last_seq=1)))
    os.utime(writer.path, ns=(NOW_NS - age_ns,) * 2)
    return writer


def a_dead_file(directory: Path, boot: bytes = BOOT, age_ns: int = 0) -> Path:
    """A file whose writer was killed `age_ns` ago."""
    writer = a_held_file(directory, boot, age_ns)
    writer.abandon()
    return writer.path


def clean(directory: Path, **limits: int) -> int:
    """Clean up as a sidecar that starts now, in this boot."""
    return clean_dead_files(directory, NOW_NS, BOOT, **limits)


def left(directory: Path) -> set[Path]:
    """The files that are still there."""
    return set(directory.iterdir())


def test_dead_files_stay_for_a_day(tmp_path: Path) -> None:
    young = a_dead_file(tmp_path, age_ns=23 * HOUR_NS)
    a_dead_file(tmp_path, age_ns=25 * HOUR_NS)
    assert clean(tmp_path) == 1
    assert left(tmp_path) == {young}


def test_a_file_counts_as_young_while_its_beat_or_its_change_is(tmp_path: Path) -> None:
    beaten, changed = a_dead_file(tmp_path, age_ns=25 * HOUR_NS), a_dead_file(tmp_path, age_ns=25 * HOUR_NS)
    with beaten.open("r+b") as file:
        file.seek(HEARTBEAT_OFFSET)
        file.write(pack_heartbeat(Heartbeat(9, NOW_NS, WriterState.RUNNING)))
    os.utime(beaten, ns=(0, 0))
    os.utime(changed, ns=(NOW_NS, NOW_NS))
    assert clean(tmp_path) == 0


def test_files_of_another_boot_go_at_once(tmp_path: Path) -> None:
    a_dead_file(tmp_path, EARLIER_BOOT, age_ns=HOUR_NS)
    ours, unknown = a_dead_file(tmp_path, age_ns=HOUR_NS), a_dead_file(tmp_path, NO_ID, age_ns=HOUR_NS)
    assert clean(tmp_path) == 1
    assert left(tmp_path) == {ours, unknown}


def test_what_beats_on_another_machine_stays_though_its_lock_is_not_seen_here(tmp_path: Path) -> None:
    elsewhere = a_dead_file(tmp_path, EARLIER_BOOT, age_ns=10**9)
    assert clean(tmp_path) == 0
    assert left(tmp_path) == {elsewhere}


def test_where_no_boot_is_known_only_age_counts(tmp_path: Path) -> None:
    young = a_dead_file(tmp_path, EARLIER_BOOT, age_ns=HOUR_NS)
    assert clean_dead_files(tmp_path, NOW_NS, NO_ID) == 0
    assert left(tmp_path) == {young}


def test_of_too_many_dead_files_the_oldest_go(tmp_path: Path) -> None:
    files = [a_dead_file(tmp_path, age_ns=minutes * 60 * 10**9) for minutes in range(70)]
    assert clean(tmp_path) == 6
    assert left(tmp_path) == set(files[:64])
    assert clean(tmp_path, max_dead_files=3) == 61
    assert left(tmp_path) == set(files[:3])


@pytest.mark.parametrize("boot", [BOOT, EARLIER_BOOT])
def test_a_live_file_is_never_removed_however_old_it_looks(tmp_path: Path, boot: bytes) -> None:
    writer = a_held_file(tmp_path, boot, age_ns=1000 * HOUR_NS)
    assert clean(tmp_path, max_dead_files=0) == 0
    assert left(tmp_path) == {writer.path}
    writer.abandon()
    assert clean(tmp_path, max_dead_files=0) == 1


def test_a_file_whose_larger_successor_took_its_name_meanwhile_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = a_held_file(tmp_path, age_ns=25 * HOUR_NS)
    is_locked, checks = SnapshotReader.is_locked, []

    def grow_before_the_lock_is_checked(reader: SnapshotReader) -> bool:
        checks.append(reader)
        writer.publish(bytes(100_000 * len(checks)))
        return is_locked(reader)

    monkeypatch.setattr(SnapshotReader, "is_locked", grow_before_the_lock_is_checked)
    assert clean(tmp_path, max_dead_files=0) == 0
    assert len(checks) == 2
    assert left(tmp_path) == {writer.path}
    assert writer.still_named()
    writer.abandon()


def unreadable_files(directory: Path) -> Sequence[Path]:
    """One file of each kind that isn't a complete snapshot file of this version."""
    truncated, newer, linked = (a_dead_file(directory, age_ns=99 * HOUR_NS) for _ in range(3))
    os.truncate(truncated, 5000)
    with newer.open("r+b") as file:
        file.seek(8)
        file.write(b"\x02")
    second_name = directory / "9-9-linked.gpm"
    second_name.hardlink_to(linked)
    garbage, empty, symlink, fifo = (directory / f"9-9-{name}.gpm" for name in ("garbage", "empty", "symlink", "fifo"))
    garbage.write_bytes(b"garbage" * 1000)
    empty.touch()
    symlink.symlink_to(garbage)
    os.mkfifo(fifo)
    (directory / "notes.txt").touch()
    return (truncated, newer, linked, second_name, garbage, empty, symlink, fifo, directory / "notes.txt")


def test_what_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    alone = unreadable_files(tmp_path)
    assert clean(tmp_path, max_dead_files=0) == 0
    assert left(tmp_path) == set(alone)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_other_users_files_are_left_alone(tmp_path: Path) -> None:
    theirs = a_dead_file(tmp_path, age_ns=99 * HOUR_NS)
    os.chown(theirs, 65_534, -1)
    assert clean(tmp_path) == 0
    assert left(tmp_path) == {theirs}


def test_temporaries_go_after_an_hour_unless_somebody_fills_them(tmp_path: Path) -> None:
    fresh, stale, held, linked = (tmp_path / f".new-{name}" for name in ("fresh", "stale", "held", "linked"))
    for path in (fresh, stale, held):
        path.touch()
    linked.symlink_to(stale)
    os.utime(fresh, ns=(NOW_NS - HOUR_NS // 2,) * 2)
    for path in (stale, held):
        os.utime(path, ns=(NOW_NS - 2 * HOUR_NS,) * 2)
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert clean(tmp_path) == 1
    assert left(tmp_path) == {fresh, held, linked}


def test_without_arguments_the_clock_and_the_boot_are_the_machines(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=1000)
    writer.close()
    assert clean_dead_files(tmp_path) == 0
    assert clean_dead_files(tmp_path, kept_seconds=-1) == 1
    assert left(tmp_path) == set()


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        clean_dead_files(tmp_path / "none")
