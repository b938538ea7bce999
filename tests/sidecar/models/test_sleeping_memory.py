"""What a server's sleep mode took off a device isn't there, whatever torch says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.models.allocators import DeviceCounters, device_memory
from gpumodels.models.training_state import NonModelBytes
from gpumodels_shared.schema import Model
from modules import ADDRESSES, Attached, a_fake, attached

MIB = 1024**2
CUMEM = "vllm.device_allocator.cumem"
NOTHING: Any = ()
WORDS: Any = ("0", "1")


@dataclass
class AllocationData:
    """As vLLM 0.11 keeps one."""

    handle: tuple[int, int, int, int]
    tag: str
    cpu_backup_tensor: Any = None


@dataclass
class MappedAllocation(AllocationData):
    """As an allocator keeps one that says whether it is mapped."""

    is_mapped: bool = True


class CuMemAllocator:
    """The table that vLLM's allocator keeps of its memory, and what sleeping does to it."""

    instance: CuMemAllocator | None = None

    def __init__(self) -> None:
        self.pointer_to_data: dict[int, AllocationData] = {}

    def sleep(self, *offload_tags: str) -> None:
        for data in self.pointer_to_data.values():
            if data.tag in offload_tags:
                data.cpu_backup_tensor = torch.empty(1)
            if isinstance(data, MappedAllocation):
                data.is_mapped = False

    def wake_up(self) -> None:
        for data in self.pointer_to_data.values():
            data.cpu_backup_tensor = None
            if isinstance(data, MappedAllocation):
                data.is_mapped = True


@pytest.fixture
def allocator(monkeypatch: pytest.MonkeyPatch) -> CuMemAllocator:
    module: Any = ModuleType(CUMEM)
    module.CuMemAllocator = CuMemAllocator
    monkeypatch.setitem(sys.modules, CUMEM, module)
    monkeypatch.setattr(CuMemAllocator, "instance", CuMemAllocator())
    assert CuMemAllocator.instance is not None
    return CuMemAllocator.instance


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    ADDRESSES.clear()
    with attached() as parts:
        yield parts
        assert parts.failures.count == 0


class Net(nn.Module):
    """Layers of so many MiB each, one after another in memory."""

    def __init__(self, *sizes: int, start: int = 0x7F0000000000, device: str = "cuda:0") -> None:
        super().__init__()
        for number, size in enumerate(sizes):
            layer = nn.Module()
            layer.weight = nn.Parameter(a_fake((size * MIB // 2,), device), requires_grad=False)
            self.add_module(f"layer{number}", layer)
            ADDRESSES[layer.weight.untyped_storage()._cdata] = start
            start += size * MIB


def holds(
    allocator: CuMemAllocator,
    start: int,
    size: int,
    tag: str = "weights",
    kind: type[AllocationData] = AllocationData,
    gpu: int = 0,
) -> None:
    allocator.pointer_to_data[start] = kind((gpu, size * MIB, start, 1), tag)


def the_model(sidecar: Attached) -> Model:
    (found,) = sidecar.models()
    return found


def test_weights_that_sleep_in_host_memory_are_there_until_they_are_woken(sidecar: Attached, allocator: CuMemAllocator) -> None:
    net = Net(32, 64)
    holds(allocator, 0x7F0000000000, 128)
    before = the_model(sidecar)
    allocator.sleep("weights")
    found = the_model(sidecar)
    assert (found.id, found.device, dict(found.bytes_by_device)) == (before.id, "cuda:0", {"cpu": 96 * MIB})
    assert (found.asleep_bytes, found.asleep_in, found.offloaded_bytes) == (96 * MIB, "host", 96 * MIB)
    assert dict(found.dtypes) == {"bfloat16": 96 * MIB}
    allocator.wake_up()
    assert the_model(sidecar) == before
    assert net is not None


def test_a_model_that_slept_when_it_was_first_seen_runs_on_its_device(sidecar: Attached, allocator: CuMemAllocator) -> None:
    net = Net(32)
    holds(allocator, 0x7F0000000000, 32)
    allocator.sleep("weights")
    assert (the_model(sidecar).device, the_model(sidecar).asleep_bytes) == ("cuda:0", 32 * MIB)
    assert net is not None


def test_what_was_discarded_is_in_no_memory(sidecar: Attached, allocator: CuMemAllocator) -> None:
    net = Net(32)
    holds(allocator, 0x7F0000000000, 32, kind=MappedAllocation)
    allocator.sleep()
    found = the_model(sidecar)
    assert (dict(found.bytes_by_device), found.asleep_bytes, found.asleep_in) == ({}, 32 * MIB, "discarded")
    assert (found.offloaded_bytes, dict(found.dtypes)) == (32 * MIB, {})
    assert net is not None


def test_an_allocator_that_does_not_say_what_it_discarded_changes_nothing(sidecar: Attached, allocator: CuMemAllocator) -> None:
    net = Net(32)
    holds(allocator, 0x7F0000000000, 32)
    allocator.sleep("something else")
    assert (the_model(sidecar).on_device_bytes, the_model(sidecar).asleep_bytes) == (32 * MIB, 0)
    assert net is not None


def test_only_what_lies_in_an_allocation_that_sleeps_does(sidecar: Attached, allocator: CuMemAllocator) -> None:
    net = Net(32, 64, 16)
    holds(allocator, 0x7F0000000000, 32, "a")
    holds(allocator, 0x7F0000000000 + 32 * MIB, 64, "b")
    holds(allocator, 0x7F0000000000, 32, "a")
    allocator.sleep("b")
    found = the_model(sidecar)
    assert dict(found.bytes_by_device) == {"cuda:0": 48 * MIB, "cpu": 64 * MIB}
    tree = found.tree
    assert tree is not None
    asleep = [(tree.names[row], size) for row, device, _, size in tree.memory if tree.devices[device] == "cpu"]
    assert asleep == [("layer1", 64 * MIB)]
    assert net is not None


def test_the_same_address_on_another_device_is_awake(sidecar: Attached, allocator: CuMemAllocator) -> None:
    net = Net(32)
    holds(allocator, 0x7F0000000000, 32, gpu=1)
    allocator.sleep("weights")
    assert the_model(sidecar).asleep_bytes == 0
    assert net is not None


@pytest.mark.parametrize(
    "table",
    [None, [], {"x": 1}, {1: None}, {1: AllocationData(NOTHING, "a")}, {1: AllocationData(WORDS, "a", 1)}],
)
def test_a_table_of_another_form_tells_nothing(table: Any, sidecar: Attached, allocator: CuMemAllocator) -> None:
    net = Net(32)
    allocator.pointer_to_data = table
    assert the_model(sidecar).asleep_bytes == 0
    assert net is not None


def test_the_devices_sums_follow_the_driver(sidecar: Attached, allocator: CuMemAllocator) -> None:
    net = Net(32, 64)
    holds(allocator, 0x7F0000000000, 128)
    allocator.sleep("weights")
    models = sidecar.models()
    counters = {"cuda:0": DeviceCounters(106 * MIB, 148 * MIB)}
    (memory,) = [
        one
        for one in device_memory(models, NonModelBytes(), counters, asleep=sidecar.sleeping_memory.asleep)
        if one.device == "cuda:0"
    ]
    assert (memory.models_bytes, memory.allocated_bytes, memory.reserved_bytes) == (0, 10 * MIB, 20 * MIB)
    assert (memory.other_bytes, memory.asleep_bytes) == (10 * MIB, 128 * MIB)
    assert net is not None


class TorchMemorySaver:
    """Its table is in its library, which ends the process when it is asked for an address that it doesn't know."""

    class Library:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    def __init__(self) -> None:
        self._impl = self.Library()
        self._impl.__dict__["_mem_pools"] = {("weights", True, False, "pinned", 0): object()}


def test_what_torch_memory_saver_took_away_leaves_no_trace_and_it_is_not_asked(
    sidecar: Attached, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("torch_memory_saver")
    module.torch_memory_saver = TorchMemorySaver()
    monkeypatch.setitem(sys.modules, "torch_memory_saver", module)
    net = Net(32, 64)
    found = the_model(sidecar)
    assert (dict(found.bytes_by_device), found.asleep_bytes) == ({"cuda:0": 96 * MIB}, 0)
    assert net is not None
