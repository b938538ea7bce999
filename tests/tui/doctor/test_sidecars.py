"""The sidecars themselves, by real files."""

from __future__ import annotations

import errno
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpumodels_shared.layout import MINOR
from gpumodels_shared.schema import SidecarHealth, Snapshot
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.doctor import sidecars
from gpumodels_tui.doctor.findings import Finding
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.doctor.packages import own_version
from machines import a_machine, found, statuses
from mapped_files import damage
from processes import running_python, wait_until
from snapshots import a_model, a_process, a_snapshot, an_identity, published

Publish = Callable[[Snapshot], SnapshotWriter]
INFO = replace(a_process("ComfyUI/main.py", os.getpid()), sidecar_version=own_version())
SNAPSHOT = a_snapshot(a_model("wan"), process=INFO)
CALLED = f"ComfyUI/main.py {os.getpid()}"


@pytest.fixture
def publish(tmp_path: Path) -> Iterator[Publish]:
    writers: list[SnapshotWriter] = []

    def do(snapshot: Snapshot) -> SnapshotWriter:
        writers.append(published(tmp_path, snapshot, an_identity(), 60_000))
        return writers[-1]

    yield do
    for writer in writers:
        writer.abandon()


CHECKS = (sidecars.version, sidecars.file_format, sidecars.health, sidecars.alive, sidecars.torch)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_good_one_passes_and_none_is_nothing_to_complain_of(
    check: Callable[[Machine], Iterable[Finding]], tmp_path: Path, publish: Publish
) -> None:
    tmp_path.chmod(0o700)
    assert set(statuses(check, a_machine(tmp_path))) == {"PASS"}
    publish(SNAPSHOT)
    assert set(statuses(check, a_machine(tmp_path))) == {"PASS"}


def test_that_none_runs_warns(tmp_path: Path, publish: Publish) -> None:
    tmp_path.chmod(0o700)
    assert found(sidecars.running, a_machine(tmp_path)) == [("WARN", "no sidecar runs")]
    publish(SNAPSHOT).close()
    assert found(sidecars.running, a_machine(tmp_path)) == [("WARN", "no sidecar runs; 1 has ended")]
    publish(SNAPSHOT)
    assert found(sidecars.running, a_machine(tmp_path)) == [("PASS", f"{CALLED}: 1 model")]


def test_one_of_another_version_warns(tmp_path: Path, publish: Publish) -> None:
    publish(replace(SNAPSHOT, process=replace(INFO, sidecar_version="0.0.1")))
    assert found(sidecars.version, a_machine(tmp_path)) == [("WARN", f"{CALLED} has gpumodels 0.0.1, this is {own_version()}")]


def with_version(path: Path, major: int, minor: int) -> None:
    """Write another version into the file's header, with its checksum."""
    damage(path, 8, struct.pack("<HH", major, minor))
    damage(path, 104, struct.pack("<I", zlib.crc32(path.read_bytes()[:104])))


def test_a_newer_format_warns_where_it_can_be_read_and_fails_where_not(tmp_path: Path, publish: Publish) -> None:
    writer = publish(SNAPSHOT)
    with_version(writer.path, 1, MINOR + 1)
    assert statuses(sidecars.file_format, a_machine(tmp_path)) == ["WARN", "PASS"]
    with_version(writer.path, 2, 0)
    assert found(sidecars.file_format, a_machine(tmp_path)) == [
        ("FAIL", f"{writer.path.name}: format 2.0: needs a newer gpumodels-tui")
    ]


def test_errors_and_warnings_of_its_warn(tmp_path: Path, publish: Publish) -> None:
    publish(replace(SNAPSHOT, health=SidecarHealth(failures=3), warnings=("the interval was changed",)))
    said = found(sidecars.health, a_machine(tmp_path))
    assert said == [
        ("WARN", f"{CALLED} counts 3 errors, such as tensors that can't be read"),
        ("WARN", f"{CALLED}: the interval was changed"),
    ]


def test_one_that_cannot_write_fails(tmp_path: Path, publish: Publish) -> None:
    writer = publish(SNAPSHOT)
    writer.dropped, writer.last_errno = 7, errno.ENOSPC
    writer.beat()
    assert found(sidecars.health, a_machine(tmp_path)) == [
        ("FAIL", f"{CALLED} can't write its snapshots (no space left on device); 7 were dropped")
    ]


def test_a_snapshot_that_cannot_be_read_warns(tmp_path: Path, publish: Publish) -> None:
    writer = publish(SNAPSHOT)
    machine = a_machine(tmp_path)
    (state,) = machine.feed.processes
    machine.feed = replace(machine.feed, processes=(replace(state, problem="torn payload"),))
    assert found(sidecars.health, machine) == [("WARN", f"{CALLED}: torn payload")]
    writer.path.unlink()
    assert statuses(sidecars.health, machine) == ["WARN"]


def test_an_old_python_and_an_old_torch_warn(tmp_path: Path, publish: Publish) -> None:
    publish(replace(SNAPSHOT, process=replace(INFO, torch_version="2.0.1+cu118")))
    publish(replace(SNAPSHOT, process=replace(INFO, python_version="3.9.2")))
    publish(replace(SNAPSHOT, process=replace(INFO, torch_version=None)))
    assert sorted(statuses(sidecars.torch, a_machine(tmp_path))) == ["PASS", "WARN", "WARN"]


def test_one_that_has_published_nothing_passes(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    writer = SnapshotWriter(tmp_path, an_identity(), 60_000)
    assert found(sidecars.version, a_machine(tmp_path)) == [("PASS", f"process {os.getpid()} has published nothing yet")]
    assert statuses(sidecars.torch, a_machine(tmp_path)) == ["PASS"]
    writer.abandon()


STILL = """
import os, sys, time
from pathlib import Path
from gpumodels_shared.identity import this_process
from snapshots import a_model, a_process, a_snapshot, published
writer = published(Path(sys.argv[1]), a_snapshot(a_model("wan"), process=a_process(pid=os.getpid())), this_process(), 10)
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
def test_a_real_process_that_beats_no_more_warns_and_one_that_was_killed_is_told(tmp_path: Path) -> None:
    path = os.pathsep.join(sys.path)
    with running_python(STILL, str(tmp_path), environment={"PYTHONPATH": path}) as child:
        assert child.stdout is not None
        child.stdout.readline()
        wait_until(lambda: "WARN" in statuses(sidecars.alive, a_machine(tmp_path)))
        assert f"{child.pid} gave no sign of life" in found(sidecars.alive, a_machine(tmp_path))[0][1]
    assert found(sidecars.alive, a_machine(tmp_path)) == [
        ("PASS", "0 give signs of life; 1 ended without saying so, as when they are killed")
    ]
