"""Records of failed allocations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpumodels.out_of_memory.failed_allocations import MAX_RECORDS, FailedAllocations, Look
from gpumodels.out_of_memory.host_limit import HostLimit
from gpumodels.support.failures import Failures
from gpumodels_shared.schema import DeviceMemory, OutOfMemory, Stage
from snapshots import a_model

GIB = 2**30
SECOND = 10**9
OUT = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 24.00 GiB of which 512.00 MiB is free. "
    "Of the allocated memory 22.00 GiB is allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but unallocated."
)
BARE = "CUDA error: out of memory"
MODELS = (
    replace(a_model("small"), id="m1", bytes_by_device={"cuda:0": GIB}),
    replace(a_model("large"), id="m2", bytes_by_device={"cuda:0": 20 * GIB, "cpu": 1}),
    replace(a_model("elsewhere"), id="m3", bytes_by_device={"cuda:1": GIB}),
)


class Machine:
    def __init__(self) -> None:
        self.kept: list[OutOfMemory] = []
        self.failed = FailedAllocations(Failures(), self._keep, HostLimit(Path("/nonexistent")))
        self.now = 1_000 * SECOND

    def _keep(self, record: OutOfMemory) -> str:
        self.kept.append(record)
        return f"/records/{record.at_ns}"

    def look(self, count: int = 0, models: tuple[object, ...] = MODELS, stages: tuple[Stage, ...] = ()) -> None:
        self.now += SECOND
        memory = DeviceMemory(
            "cuda:0", 21 * GIB, allocated_bytes=21 * GIB, reserved_bytes=22 * GIB, other_bytes=5, out_of_memory_count=count
        )
        self.failed.update(Look(self.now, (memory, DeviceMemory("cpu", 1)), models, stages))  # type: ignore[arg-type]

    def fails(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gpumodels.out_of_memory.noticing.time.time_ns", lambda: self.now + SECOND // 2)
        self.failed.errors.note(torch.OutOfMemoryError(text))


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_counted_failure_is_recorded_with_what_was_there_before(machine: Machine) -> None:
    machine.look()
    before = machine.now
    machine.look(count=1, models=())
    (record,) = machine.failed.records
    assert (record.noticed_by, record.device, record.message, record.requested_bytes) == ("counter", "cuda:0", None, None)
    assert record.models == (("large", 20 * GIB), ("small", GIB))
    assert record.parts == {"weights": 21 * GIB, "other": 5, "allocator cache": GIB}
    assert (record.looked_at_ns, record.at_ns, record.allocated_bytes) == (before, machine.now, 21 * GIB)
    assert [name for _, _, name, _ in record.recent] == ["small", "large", "elsewhere"]
    assert record.record == f"/records/{record.at_ns}"


def test_what_the_allocator_counted_before_us_is_not_recorded(machine: Machine) -> None:
    machine.look(count=3)
    machine.look(count=3)
    assert machine.failed.records == ()
    machine.look(count=4)
    assert len(machine.failed.records) == 1


def test_an_error_tells_more_than_its_counting(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.look()
    machine.fails(OUT, monkeypatch)
    machine.look(count=1, models=())
    (record,) = machine.failed.records
    assert (record.noticed_by, record.requested_bytes, record.free_bytes) == ("exception", 2 * GIB, GIB // 2)
    assert (record.allocated_bytes, record.reserved_bytes, record.total_bytes) == (22 * GIB, 23 * GIB, 24 * GIB)
    assert record.at_ns == machine.now - SECOND // 2


@pytest.mark.parametrize("counted_first", [True, False])
def test_one_failure_is_one_record_whichever_is_seen_first(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, counted_first: bool
) -> None:
    machine.look()
    if counted_first:
        machine.look(count=1)
        machine.fails(OUT, monkeypatch)
        machine.look(count=1)
    else:
        machine.fails(OUT, monkeypatch)
        machine.look(count=0)
        machine.look(count=1)
    (record,) = machine.failed.records
    assert (record.noticed_by, record.requested_bytes) == ("exception", 2 * GIB)
    assert machine.kept[-1].requested_bytes == 2 * GIB
    assert len({one.at_ns for one in machine.kept}) == 1


def test_two_failures_are_two_records(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.look()
    machine.fails(OUT, monkeypatch)
    machine.look(count=2)
    assert [one.noticed_by for one in machine.failed.records] == ["exception", "counter"]
    for _ in range(11):
        machine.look(count=2)
    machine.fails(OUT, monkeypatch)
    machine.look(count=3)
    assert [one.noticed_by for one in machine.failed.records] == ["exception", "counter", "exception"]


def test_a_device_without_an_index_is_the_only_possible_one(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.look()
    machine.fails(BARE, monkeypatch)
    machine.look(count=1)
    assert [one.device for one in machine.failed.records] == ["cuda:0"]


def test_the_stage_that_ran(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.look()
    loader = Stage("1", "UNETLoader", machine.now - 5 * SECOND, machine.now - SECOND)
    sampler = Stage("2", "KSampler", machine.now, machine.now + SECOND)
    machine.fails(OUT, monkeypatch)
    machine.look(count=1, stages=(loader, sampler))
    assert [one.stage for one in machine.failed.records] == ["KSampler"]
    decoder = Stage("3", "VAEDecode", machine.now + SECOND // 2)
    machine.look(count=2, stages=(loader, sampler, decoder))
    assert machine.failed.records[-1].stage is None, "it is counted only, and two may have been running"


def test_of_stages_within_each_other_the_innermost_is_named(machine: Machine) -> None:
    machine.look()
    around = Stage("#1", "generate", machine.now - SECOND)
    within = Stage("#1.2", "denoise", machine.now)
    machine.look(count=1, stages=(around, within))
    beside = Stage("#2", "another thread's", machine.now)
    machine.look(count=2, stages=(around, within, beside))
    assert [one.stage for one in machine.failed.records] == ["denoise", None]


def test_the_last_ones_are_kept(machine: Machine) -> None:
    for count in range(2 * MAX_RECORDS):
        machine.look(count=count)
    assert len(machine.failed.records) == MAX_RECORDS
    assert machine.failed.records[-1].at_ns == machine.now


def test_a_cgroups_limit_is_host_memory(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/one\n")
    directory = tmp_path / "one"
    directory.mkdir()
    (directory / "memory.events").write_text("oom 0\noom_kill 0\n")
    (directory / "memory.max").write_text("1000\n")
    machine = Machine()
    machine.failed = FailedAllocations(Failures(), machine._keep, HostLimit(tmp_path / "own", tmp_path))
    machine.look()
    (directory / "memory.events").write_text("oom 1\noom_kill 0\n")
    machine.look()
    (record,) = machine.failed.records
    assert (record.device, record.noticed_by, record.total_bytes, record.models) == ("cpu", "cgroup", 1000, (("large", 1),))
