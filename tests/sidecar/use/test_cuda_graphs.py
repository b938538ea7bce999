"""Whether there may be a CUDA graph, with a stand-in for torch's class."""

from __future__ import annotations

import gc
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import gpumodels.use.cuda_graphs as cuda_graphs
from gpumodels.use.cuda_graphs import CudaGraphs

pytestmark = pytest.mark.skipif(not cuda_graphs.COUNTS_REFERENCES, reason="this interpreter doesn't count references")


def a_torch(is_initialized: bool) -> Any:
    """A torch whose class of graphs is its own."""
    base = type("_CUDAGraph", (), {})
    graph = type("CUDAGraph", (base,), {})
    return SimpleNamespace(cuda=SimpleNamespace(CUDAGraph=graph, is_initialized=lambda: is_initialized))


def graphs_of(torch: ModuleType) -> CudaGraphs:
    gc.collect()
    graphs = CudaGraphs(torch)
    graphs.update()
    return graphs


def test_where_the_device_is_not_in_use_there_is_no_graph_until_one_is_made() -> None:
    torch = a_torch(is_initialized=False)
    graphs = graphs_of(torch)
    assert (graphs.types(), graphs.may_exist) == (set(), False)
    made = torch.cuda.CUDAGraph()
    graphs.update()
    assert graphs.may_exist
    del made
    graphs.update()
    assert graphs.may_exist


def test_one_of_a_subclass_or_of_the_class_below_is_a_graph_too() -> None:
    for kind in ("subclass", "base"):
        torch = a_torch(is_initialized=False)
        graphs = graphs_of(torch)
        one = type("Mine", (torch.cuda.CUDAGraph,), {})() if kind == "subclass" else torch.cuda.CUDAGraph.__base__()
        graphs.update()
        assert graphs.may_exist
        assert one is not None


def test_a_reference_that_goes_hides_no_graph_that_comes_later() -> None:
    torch = a_torch(is_initialized=False)
    imported = [torch.cuda.CUDAGraph]
    graphs = graphs_of(torch)
    imported.clear()
    graphs.update()
    before = graphs.may_exist
    made = torch.cuda.CUDAGraph()
    graphs.update()
    assert (before, graphs.may_exist) == (False, True)
    assert made is not None


def test_where_the_device_was_in_use_before_the_sweep_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "get_freeze_count", lambda: 375)
    torch = a_torch(is_initialized=True)
    graphs = graphs_of(torch)
    assert (graphs.types(), graphs.may_exist) == ({torch.cuda.CUDAGraph}, True)
    graphs.add_all([])
    assert (graphs.types(), graphs.may_exist) == (set(), False)
    graphs = graphs_of(torch)
    graphs.add_all([torch.cuda.CUDAGraph()])
    assert graphs.may_exist


def test_what_was_frozen_may_be_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = graphs_of(a_torch(is_initialized=True))
    monkeypatch.setattr(gc, "get_freeze_count", lambda: 10**6)
    graphs.add_all([])
    assert graphs.may_exist


def test_where_nothing_can_be_counted_there_may_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    no_class: Any = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: False))
    assert graphs_of(no_class).may_exist
    monkeypatch.setattr(cuda_graphs, "COUNTS_REFERENCES", False)
    assert graphs_of(a_torch(is_initialized=False)).may_exist
