"""The counters of torch's allocators are read without a driver call."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

from gpumodels.models.allocators import DeviceCounters, TorchDevices, device_memory


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
