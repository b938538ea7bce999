"""Snapshots get into the file while there is a way, and trouble is said once and never raised."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gpumodels.publishing.publisher import Publisher
from gpumodels.support.failures import Failures
from gpumodels_shared.decoding import decode
from gpumodels_shared.identity import this_process
from gpumodels_shared.layout import WriterState
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.schema import SidecarHealth, Snapshot
from snapshots import a_model, a_snapshot

ME = os.geteuid()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def publisher(directory: Path) -> Iterator[Publisher]:
    made = Publisher(directory, this_process(), 250, Failures(), lambda: None)
    yield made
    made.abandon()


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was said to the host's log."""
    caplog.set_level(logging.WARNING, "gpumodels")
    return lambda: [record.getMessage() for record in caplog.records]


@contextmanager
def opened(directory: Path) -> Iterator[SnapshotReader]:
    """The only file there."""
    (name,) = snapshot_files(directory)
    reader = SnapshotReader(directory / name, ME)
    try:
        yield reader
    finally:
        reader.close()


def shown(directory: Path) -> Snapshot:
    with opened(directory) as reader:
        payload = reader.latest()
        assert payload is not None
        return decode(payload.data)


def test_what_says_nothing_new_is_a_beat_and_no_snapshot(publisher: Publisher, directory: Path) -> None:
    snapshot = a_snapshot(a_model("one"))
    publisher.publish(snapshot)
    with opened(directory) as reader:
        before = reader.heartbeat()
        publisher.publish(replace(snapshot, taken_at_ns=snapshot.taken_at_ns + 1, health=SidecarHealth(5.0, 700, 3)))
        publisher.beat()
        after = reader.heartbeat()
        assert (after.last_seq, after.beat) == (before.last_seq, before.beat + 2)
        publisher.publish(a_snapshot(a_model("one", size=5)))
        assert reader.heartbeat().last_seq == before.last_seq + 1
    assert [model.resident_bytes for model in shown(directory).models] == [5]


def test_what_readers_can_see_is_remembered_as_published(publisher: Publisher, directory: Path) -> None:
    snapshot = a_snapshot(a_model("one"))
    publisher.publish(snapshot)
    assert publisher.published is snapshot
    assert shown(directory) == replace(snapshot, process=replace(snapshot.process, uid=ME))


def test_nothing_is_made_before_the_first_snapshot(publisher: Publisher, directory: Path) -> None:
    publisher.beat()
    publisher.close()
    assert not directory.exists()


def test_a_file_that_was_removed_is_replaced_and_the_same_snapshot_published_again(publisher: Publisher, directory: Path) -> None:
    snapshot = a_snapshot(a_model("one"))
    publisher.publish(snapshot)
    (name,) = snapshot_files(directory)
    (directory / name).unlink()
    publisher.publish(snapshot)
    assert [model.name for model in shown(directory).models] == ["one"]
    assert snapshot_files(directory) != [name]


def test_a_file_that_somebody_truncated_is_taken_away_for_another(publisher: Publisher, directory: Path) -> None:
    publisher.publish(a_snapshot(a_model("one")))
    (name,) = snapshot_files(directory)
    os.truncate(directory / name, 100)
    publisher.publish(a_snapshot(a_model("two")))
    assert [model.name for model in shown(directory).models] == ["two"]


def test_a_directory_that_may_not_be_used_is_one_warning_and_the_next_file_counts_what_was_dropped(
    publisher: Publisher, directory: Path, warnings: Callable[[], list[str]]
) -> None:
    directory.mkdir()
    directory.chmod(0o777)
    for _ in range(3):
        publisher.publish(a_snapshot(a_model("one")))
    assert publisher.published is None
    assert os.listdir(directory) == []
    (warning,) = warnings()
    assert f"cannot publish in {directory}" in warning
    directory.chmod(0o700)
    publisher.publish(a_snapshot(a_model("one")))
    with opened(directory) as reader:
        assert (reader.heartbeat().dropped, reader.heartbeat().last_errno) == (3, 0)
    assert len(warnings()) == 1


def test_trouble_that_comes_again_is_said_again(publisher: Publisher, directory: Path, warnings: Callable[[], list[str]]) -> None:
    for _ in range(2):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o777)
        publisher.publish(a_snapshot(a_model("one")))
        directory.chmod(0o700)
        publisher.publish(a_snapshot(a_model("one")))
        for name in snapshot_files(directory):
            (directory / name).unlink()
    assert len(warnings()) == 2


def test_a_closed_file_says_goodbye_and_an_abandoned_one_nothing(directory: Path) -> None:
    ends: list[tuple[Callable[[Publisher], None], WriterState]] = [
        (Publisher.close, WriterState.EXITED),
        (Publisher.abandon, WriterState.RUNNING),
    ]
    for end, state in ends:
        publisher = Publisher(directory, this_process(), 250, Failures(), lambda: None)
        publisher.publish(a_snapshot(a_model("one")))
        with opened(directory) as reader:
            end(publisher)
            end(publisher)
            assert reader.heartbeat().state is state
            assert not reader.is_locked()
        assert [model.name for model in shown(directory).models] == ["one"]


def test_a_group_may_read_where_the_environment_says_so(
    publisher: Publisher, directory: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("GPUMODELS_GROUP", str(os.getegid()))
    publisher.publish(a_snapshot())
    (name,) = snapshot_files(directory)
    assert [path.stat().st_mode & 0o777 for path in (directory, directory / name)] == [0o750, 0o640]
    assert warnings() == []


def test_a_group_that_is_none_is_one_warning_and_only_the_user_may_read(
    publisher: Publisher, directory: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setenv("GPUMODELS_GROUP", "no such group")
    for _ in range(2):
        publisher.publish(a_snapshot())
        (name,) = snapshot_files(directory)
        assert [path.stat().st_mode & 0o777 for path in (directory, directory / name)] == [0o700, 0o600]
        (directory / name).unlink()
    assert warnings() == [f"cannot let the group read {directory}: GPUMODELS_GROUP=no such group: no such group"]
