from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pytest

from gpumodels.support.accelerator_memory import AcceleratorMemory, MainAccelerator, peak_between


def a_torch(**counts: int) -> ModuleType:
    """A torch that counts this on its second device, and that has initialised nothing else."""

    def memory_stats(index: int) -> dict[str, int]:
        if index != 1:
            raise RuntimeError("no such device")
        return {f"allocated_bytes.all.{name}": count for name, count in counts.items()}

    torch = ModuleType("torch")
    torch.xpu = SimpleNamespace(is_initialized=lambda: False)  # type: ignore[attr-defined]
    torch.cuda = SimpleNamespace(is_initialized=lambda: True, memory_stats=memory_stats)  # type: ignore[attr-defined]
    return torch


def test_the_main_devices_counters_are_read() -> None:
    accelerator = MainAccelerator(a_torch(current=3, peak=5, allocated=9))
    accelerator.device = "cuda:1"
    assert accelerator.read() == AcceleratorMemory("cuda:1", 3, 5, 9)


def test_counters_that_an_accelerator_lacks_are_unknown() -> None:
    accelerator = MainAccelerator(a_torch(current=3))
    accelerator.device = "cuda:1"
    assert accelerator.read() == AcceleratorMemory("cuda:1", 3)
    accelerator.device = None
    assert accelerator.read() == AcceleratorMemory("cuda:0")


def test_without_an_initialised_accelerator_there_is_none() -> None:
    torch = ModuleType("torch")
    torch.cuda = SimpleNamespace(is_initialized=lambda: False)  # type: ignore[attr-defined]
    assert MainAccelerator(torch).read() is None


@pytest.mark.parametrize(
    ("before", "after", "peak"),
    [
        pytest.param((5, 10, 50), (6, 14, 90), 14, id="the counter has risen"),
        pytest.param((5, 10, 50), (5, 10, 50), 5, id="nothing was allocated"),
        pytest.param((5, 10, 50), (8, 10, 53), 8, id="nothing was freed"),
        pytest.param((5, 10, 50), (4, 10, 50), 5, id="something was only freed"),
        pytest.param((5, 10, 50), (10, 10, 70), 10, id="it ends at the peak of all time"),
        pytest.param((5, 10, 50), (6, 10, 70), None, id="it may have been anything in between"),
        pytest.param((5, 10, 50), (6, 8, 70), None, id="the host reset the counter"),
        pytest.param((5, None, None), (6, None, None), None, id="it isn't counted"),
        pytest.param((None, 10, 50), (6, 14, 70), None, id="it is unknown how it began"),
    ],
)
def test_a_peak_in_between_is_told_only_where_the_counters_leave_no_other(
    before: tuple[int | None, int | None, int | None], after: tuple[int | None, int | None, int | None], peak: int | None
) -> None:
    assert peak_between(AcceleratorMemory("cuda:0", *before), AcceleratorMemory("cuda:0", *after)) == peak
