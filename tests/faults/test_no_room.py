"""No room for the file: the host isn't affected, its log has one warning, and the file appears soon after there is room."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpumodels.publishing.publisher import Publisher
from gpumodels.support.failures import Failures
from gpumodels_shared.decoding import decode
from gpumodels_shared.identity import this_process
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.schema import Snapshot
from hosts import Host
from processes import wait_until
from snapshots import a_model, a_snapshot, a_tree

Reached = Callable[[str, str], None]
WatchedHost = Callable[..., contextlib.AbstractContextManager[Host]]


def wait_until_published(directory: Path) -> None:
    """Wait until a snapshot can be read in the directory."""
    wait_until(lambda: published(directory) is not None)


def ticks_until_published(host: Host, directory: Path) -> int:
    """How many of the host's ticks, counted from now on, pass until a snapshot can be read in the directory."""
    before = host.tell("len(published)")
    wait_until_published(directory)
    attempts: list[bool] = []

    def has_succeeded() -> bool:
        attempts[:] = host.tell(f"published[{before}:]")
        return True in attempts

    wait_until(has_succeeded)
    return attempts.index(True) + 1


def published(directory: Path) -> Snapshot | None:
    """The snapshot in the directory's only file, if there is one."""
    try:
        (name,) = snapshot_files(directory)
        reader = SnapshotReader(directory / name, os.geteuid())
    except (OSError, ValueError):
        return None
    try:
        payload = reader.latest()
        return decode(payload.data) if payload is not None else None
    finally:
        reader.close()


def warned(host: Host) -> list[str]:
    """The sidecar's warnings in the host's log."""
    records: list[str] = host.tell("records")
    return records


def check_healing(host: Host, directory: Path, heal: Callable[[], object], fault: str, reached: Reached) -> None:
    """Check that some ticks without room give one warning, and that the host publishes within two ticks of there being room."""
    wait_until(lambda: warned(host) != [])
    attempts = host.tell("len(published)")
    wait_until(lambda: bool(host.tell("len(published)") >= attempts + 2))
    assert len(warned(host)) == 1, warned(host)
    assert published(directory) is None
    heal()
    ticks = ticks_until_published(host, directory)
    reached("no room", f"{fault}: 1 warning, healed in {ticks} tick{'s' * (ticks > 1)}")
    assert ticks <= 2
    assert len(warned(host)) == 1


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def test_a_full_file_system(mounted: Callable[[str], Path], watched_host: WatchedHost, reached: Reached) -> None:
    place = mounted("size=64k,mode=700")
    with watched_host(place / "files") as host:
        check_healing(host, place / "files", lambda: remount(place, "size=1m"), "full tmpfs", reached)


def test_a_read_only_file_system(mounted: Callable[[str], Path], watched_host: WatchedHost, reached: Reached) -> None:
    place = mounted("size=1m,mode=700")
    (place / "files").mkdir(mode=0o700)
    remount(place, "ro")
    with watched_host(place / "files") as host:
        check_healing(host, place / "files", lambda: remount(place, "rw"), "read-only", reached)


def test_a_limit_on_the_size_of_files(shared_memory: Path, watched_host: WatchedHost, reached: Reached) -> None:
    set_limit = "resource.setrlimit(resource.RLIMIT_FSIZE, ({}, resource.RLIM_INFINITY))"
    with watched_host(shared_memory, set_limit.format("100_000")) as host:
        lift = set_limit.format("resource.RLIM_INFINITY")
        check_healing(host, shared_memory, lambda: host.tell(lift), "RLIMIT_FSIZE", reached)


def test_no_descriptors_left(shared_memory: Path, watched_host: WatchedHost, reached: Reached) -> None:
    take_all = """
kept = []
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    while True:
        kept.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
"""
    with watched_host(shared_memory, take_all) as host:
        free = "while kept: os.close(kept.pop())"
        check_healing(host, shared_memory, lambda: host.tell(free), "EMFILE", reached)


def test_no_descriptors_left_after_the_start(shared_memory: Path, watched_host: WatchedHost) -> None:
    with watched_host(shared_memory) as host:
        wait_until_published(shared_memory)
        set_limit = "resource.setrlimit(resource.RLIMIT_NOFILE, ({}, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))"
        host.tell(set_limit.format(3))
        host.wait_for_ticks(3)
        assert warned(host) == []
        host.tell(set_limit.format(1024))  # a daemon thread of the host's own can't end without: it loads libgcc to exit


def test_a_missing_directory_that_cannot_be_made(shared_memory: Path, watched_host: WatchedHost, reached: Reached) -> None:
    in_the_way = shared_memory / "place"
    block = f"os.rmdir({str(in_the_way / 'files')!r}); os.rmdir({str(in_the_way)!r}); open({str(in_the_way)!r}, 'w').close()"
    in_the_way.mkdir(mode=0o700)
    with watched_host(in_the_way / "files", block) as host:
        check_healing(host, in_the_way / "files", in_the_way.unlink, "no directory", reached)


def test_a_directory_that_others_may_write_to(shared_memory: Path, watched_host: WatchedHost, reached: Reached) -> None:
    directory = shared_memory / "files"
    with watched_host(directory, f"os.chmod({str(directory)!r}, 0o777)") as host:
        check_healing(host, directory, lambda: directory.chmod(0o700), "mode 0777", reached)
        assert "chmod 700" in warned(host)[0], "it says what to do"


@pytest.mark.parametrize("fault", ["removed directory", "removed file", "truncated file"])
def test_a_file_that_is_removed_or_damaged_is_made_again(
    shared_memory: Path, watched_host: WatchedHost, fault: str, reached: Reached
) -> None:
    directory = shared_memory / "files"
    with watched_host(directory) as host:
        wait_until_published(directory)
        (name,) = snapshot_files(directory)
        if fault == "removed directory":
            shutil.rmtree(directory)
        elif fault == "removed file":
            (directory / name).unlink()
        else:
            os.truncate(directory / name, 0)
        ticks = ticks_until_published(host, directory)
        reached("no room", f"{fault}: healed in {ticks} tick{'s' * (ticks > 1)}")
        assert ticks <= 2
        assert warned(host) == []
        assert len(snapshot_files(directory)) == 1


def large_snapshot(seed: int) -> Snapshot:
    """A snapshot larger than the smallest slot."""
    return a_snapshot(a_model(f"model {seed}", tree=a_tree({f"layers.{index}.attention": 512 for index in range(8000)})))


@pytest.fixture
def publisher(mounted: Callable[[str], Path]) -> Iterator[tuple[Publisher, Path]]:
    """A publisher with 300 kB of room: enough for a small file, too little for the file that a larger snapshot needs."""
    place = mounted("size=300k,mode=700")
    made = Publisher(place, this_process(), 250, Failures(), lambda: None)
    yield made, place
    made.close()


def test_a_file_that_cannot_grow_keeps_its_last_snapshot_and_says_why(
    publisher: tuple[Publisher, Path], caplog: pytest.LogCaptureFixture, reached: Reached
) -> None:
    publishes, place = publisher
    caplog.set_level(logging.WARNING, "gpumodels")
    small = a_snapshot(a_model("small"))
    publishes.publish(small)
    (name,) = snapshot_files(place)
    reader = SnapshotReader(place / name, os.geteuid())
    for seed in range(3):
        publishes.publish(large_snapshot(seed))
        assert reader.heartbeat().last_errno == errno.ENOSPC
        assert reader.heartbeat().dropped == seed + 1
        assert published(place) == replace(small, process=replace(small.process, uid=os.geteuid()))
    assert len(caplog.records) == 1
    remount(place, "size=8m")
    publishes.publish(large_snapshot(3))
    reader.close()
    reader = SnapshotReader(place / name, os.geteuid())
    assert (reader.heartbeat().last_errno, reader.heartbeat().dropped) == (0, 3)
    shown = published(place)
    assert shown is not None
    assert shown.models[0].name == "model 3"
    assert len(caplog.records) == 1
    reached("no room", "no room to grow: 1 warning, last snapshot kept, errno shown, healed in 1 tick")
    reader.close()


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_no_blocks_for_a_new_file(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reached: Reached
) -> None:
    """Quotas need a file system that supports them, so the kernel's refusal is simulated."""
    tmp_path.chmod(0o700)
    caplog.set_level(logging.WARNING, "gpumodels")
    publisher = Publisher(tmp_path / "files", this_process(), 250, Failures(), lambda: None)

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", refuse)
        for _ in range(3):
            publisher.publish(a_snapshot())
        assert os.listdir(tmp_path / "files") == []
    publisher.publish(a_snapshot())
    assert published(tmp_path / "files") is not None
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot publish in {tmp_path / 'files'}: {os.strerror(code)}; will keep trying"
    ]
    publisher.close()
    if code == errno.EDQUOT:
        reached("no room", "EDQUOT (injected): 1 warning, healed in 1 tick")


def test_publishing_troubles_never_reach_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    publisher = Publisher(tmp_path, this_process(), 250, Failures(), lambda: None)
    publisher.publish(a_snapshot())

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "sick disk")

    monkeypatch.setattr("gpumodels_shared.writer._write_slot", fail)
    monkeypatch.setattr("gpumodels_shared.writer.SnapshotWriter.beat", fail)
    publisher.publish(a_snapshot(a_model("new")))
    publisher.beat()
    publisher.close()
