"""The counters of torch's allocators are read without a driver call."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gpumodels.models.allocators import DeviceCounters, TorchDevices, device_memory
from gpumodels.models.training_state import NonModelBytes


def a_torch(*stats: dict[str, int], initialized: bool = True) -> ModuleType:
    """A stand-in for torch with one GPU for each of these statistics; the next index is no device."""

    def memory_stats(index: int) -> dict[str, int]:
        if index >= len(stats):
            raise RuntimeError("Invalid device argument: did you call init?")
        return stats[index]

    torch: Any = ModuleType("torch")
    torch.cuda = SimpleNamespace(is_initialized=lambda: initialized, memory_stats=memory_stats)
    return torch  # type: ignore[no-any-return]


def test_each_device_says_what_its_allocator_counts() -> None:
    torch = a_torch(
        {"reserved_bytes.all.current": 300, "allocated_bytes.all.current": 200, "num_ooms": 2},
        {"reserved_bytes.all.current": 0, "num_ooms": 0},
        {"reserved_bytes.all.current": 100, "allocated_bytes.all.current": 50},
    )
    assert TorchDevices(torch).counters() == {
        "cuda:0": DeviceCounters(200, 300, out_of_memory_count=2),
        "cuda:2": DeviceCounters(50, 100),
    }


def test_a_device_on_which_the_first_allocation_failed_is_reported() -> None:
    counters = TorchDevices(a_torch({"reserved_bytes.all.current": 0, "num_ooms": 1})).counters()
    assert [(one.device, one.out_of_memory_count) for one in device_memory((), None, counters)] == [("cuda:0", 1)]


def test_nothing_is_asked_before_the_host_initialised_its_gpus() -> None:
    assert TorchDevices(a_torch({"reserved_bytes.all.current": 300}, initialized=False)).counters() == {}


def backend(*stats: dict[str, int], initialized: bool = True) -> Any:
    """A module of torch for a kind of accelerator."""
    return a_torch(*stats, initialized=initialized).cuda


HELD = {"reserved_bytes.all.current": 300, "allocated_bytes.all.current": 200}


@pytest.mark.parametrize("kind", ["xpu", "mtia", "npu", "hpu", "somebodys"])
def test_every_backend_is_asked_once_its_host_has_initialised_it(kind: str) -> None:
    torch: Any = ModuleType("torch")
    torch._C = SimpleNamespace(_get_privateuse1_backend_name=lambda: "somebodys")
    setattr(torch, kind, backend(HELD, initialized=False))
    assert TorchDevices(torch).counters() == {}
    setattr(torch, kind, backend(HELD))
    assert TorchDevices(torch).counters() == {f"{kind}:0": DeviceCounters(200, 300)}


def test_habanas_words_are_understood_and_its_one_device_counts_once() -> None:
    torch: Any = ModuleType("torch")
    torch.hpu = SimpleNamespace(is_initialized=lambda: True, memory_stats=lambda index: {"InUse": 200, "Limit": 1000})
    assert TorchDevices(torch).counters() == {"hpu:0": DeviceCounters(200)}


def test_apples_allocator_is_asked_only_once_a_model_is_there() -> None:
    torch: Any = ModuleType("torch")
    torch.mps = SimpleNamespace(current_allocated_memory=lambda: pytest.fail("this would initialise it"))
    assert TorchDevices(torch).counters({"cpu"}) == {}
    torch.mps = SimpleNamespace(current_allocated_memory=lambda: 500)
    assert TorchDevices(torch).counters({"cpu", "mps:0"}) == {"mps:0": DeviceCounters(500)}
    (memory,) = device_memory((), NonModelBytes(), {"mps:0": DeviceCounters(500)})
    assert (memory.allocated_bytes, memory.reserved_bytes, memory.other_bytes) == (500, None, 500)


def test_an_allocator_that_would_ask_the_driver_is_not_asked() -> None:
    torch: Any = a_torch(HELD)
    for name, expected in (("native", {"cuda:0": DeviceCounters(200, 300)}), ("cudaMallocAsync", {})):
        torch._C = SimpleNamespace(_cuda_getAllocatorBackend=lambda name=name: name)
        assert TorchDevices(torch).counters() == expected


def test_a_pluggable_allocator_without_counters_is_unknown() -> None:
    def memory_stats(index: int) -> dict[str, int]:
        raise RuntimeError("CUDAPluggableAllocator does not yet support getDeviceStats.")

    torch: Any = ModuleType("torch")
    torch.cuda = SimpleNamespace(is_initialized=lambda: True, memory_stats=memory_stats)
    assert TorchDevices(torch).counters() == {}


def test_what_an_allocator_does_not_count_is_unknown_not_0() -> None:
    torch: Any = ModuleType("torch")
    torch.npu = backend({"allocated_bytes.all.current": 200})
    assert TorchDevices(torch).counters() == {"npu:0": DeviceCounters(200)}
