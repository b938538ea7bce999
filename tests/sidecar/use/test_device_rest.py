"""Since when nothing was allocated on accelerators."""

from __future__ import annotations

import torch

from gpumodels.models.allocators import DeviceCounters
from gpumodels.use.cuda_graphs import CudaGraphs
from gpumodels.use.device_rest import DeviceRest


def after(*counts: dict[str, int | None]) -> int | None:
    """Since which tick nothing was allocated, after ticks 1, 2, … with these counts by device."""
    graphs = CudaGraphs(torch)
    graphs.may_exist = False
    rest = DeviceRest(graphs)
    for tick, by_device in enumerate(counts, 1):
        rest.update({device: DeviceCounters(1, 1, allocation_count=count) for device, count in by_device.items()}, tick)
    return rest.since_ns


def test_it_is_the_first_tick_with_these_counts() -> None:
    assert after({"cuda:0": 5}, {"cuda:0": 5}) == 1
    assert after({"cuda:0": 5}, {"cuda:0": 6}, {"cuda:0": 6}) == 2


def test_an_allocation_on_one_device_may_be_for_a_model_on_another() -> None:
    assert after({"cuda:0": 5, "cuda:1": 1}, {"cuda:0": 5, "cuda:1": 2}) == 2
    assert after({"cuda:0": 5}, {"cuda:0": 5, "cuda:1": 1}) == 2


def test_what_is_not_counted_is_not_known() -> None:
    assert after({}) is None
    assert after({"cuda:0": None}) is None
    assert after({"cuda:0": 5, "xpu:0": 5}) is None
    assert after({"cuda:0": 5, "hpu:0": None}) is None
    assert after({"cuda:0": 5}, {}, {"cuda:0": 5}) == 3
