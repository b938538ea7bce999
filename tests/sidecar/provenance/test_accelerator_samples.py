"""Values are copied from an accelerator on request. Host memory stands in for the accelerator; the copy is real."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import gpumodels
from gpumodels.observing.observers import Observers
from gpumodels.provenance.accelerator_samples import AcceleratorSampler
from gpumodels.support.failures import Failures
from gpumodels_shared.fingerprint import VALUES
from modules import Backbone, attached

STAND_IN = frozenset({"cpu"})


class Graph:
    """A stand-in for torch's CUDAGraph."""

    def __init__(self) -> None:
        self.fails = False

    def capture_begin(self) -> None:
        if self.fails:
            raise RuntimeError("no capture")

    def capture_end(self) -> None:
        pass


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces torch's class of graphs by one that can be captured without an accelerator."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)


@pytest.fixture
def sampler() -> Iterator[AcceleratorSampler]:
    """A sampler that takes host memory for an accelerator."""
    failures = Failures()
    one, observers = AcceleratorSampler(torch, failures, STAND_IN), Observers(torch, failures)
    one.observe(observers)
    yield one
    observers.remove()
    assert failures.count == 0


def test_first_values_come_bit_for_bit_in_one_copy(sampler: AcceleratorSampler, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[int] = []
    cat = torch.cat

    def counted(heads: list[torch.Tensor]) -> torch.Tensor:
        copies.append(len(heads))
        return cat(heads)

    monkeypatch.setattr(torch, "cat", counted)
    tensors: list[Any] = [
        torch.randn(64, 64),
        nn.Parameter(torch.randn(8, 64, dtype=torch.bfloat16)),
        torch.randn(64, 64).to(torch.float8_e4m3fn),
        torch.arange(4096, dtype=torch.uint8),
    ]
    taken = sampler.take([*tensors, torch.randn(64, 64).t(), torch.randn(2), torch.empty(64, 64, device="meta")])
    assert [sample.shape for _, sample in taken] == [tuple(tensor.shape) for tensor in tensors]
    for tensor, sample in taken:
        assert sample.dtype == str(tensor.dtype).removeprefix("torch.")
        assert sample.data == ctypes.string_at(tensor.data_ptr(), VALUES * tensor.element_size())
    assert copies == [len(tensors)]


def test_nothing_is_copied_while_a_graph_is_captured(sampler: AcceleratorSampler) -> None:
    graph, tensor = Graph(), torch.randn(64, 64)
    graph.capture_begin()
    assert sampler.take([tensor]) == []
    before = sampler.version
    graph.capture_end()
    assert sampler.version == before + 1
    assert len(sampler.take([tensor])) == 1
    graph.fails = True
    with pytest.raises(RuntimeError, match="no capture"):
        graph.capture_begin()
    assert len(sampler.take([tensor])) == 1


def test_a_capture_that_begins_during_a_copy_waits_for_its_end(
    sampler: AcceleratorSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph()
    order: list[str] = []
    cat = torch.cat

    def capture() -> None:
        graph.capture_begin()
        order.append("captured")

    capturing = threading.Thread(target=capture)

    def slow(heads: list[torch.Tensor]) -> torch.Tensor:
        capturing.start()
        capturing.join(0.2)
        order.append("copied")
        return cat(heads)

    monkeypatch.setattr(torch, "cat", slow)
    assert len(sampler.take([torch.randn(64, 64)])) == 1
    capturing.join()
    assert order == ["copied", "captured"]


@pytest.mark.parametrize("asked", [False, True])
def test_models_loaded_straight_onto_an_accelerator_are_named_by_values_only_on_request(
    asked: bool, sampler: AcceleratorSampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with attached() as sidecar:
        model = Backbone()
        save_file(model.state_dict(), tmp_path / "straight.safetensors")
        os.utime(tmp_path / "straight.safetensors", (1e9, 1e9))  # long before it was loaded
        sidecar.origin_tracker.files_read.add(str(tmp_path / "straight.safetensors"))
        monkeypatch.setattr(
            sidecar.origin_tracker.sampler, "take_from_other_thread", lambda *arguments: None
        )  # as on an accelerator
        if asked:
            monkeypatch.setattr(sidecar.origin_tracker, "_accelerators", sampler)
        found = {one.name: one.name_source for one in sidecar.models()}
        assert found == ({"straight": "values"} if asked else {"straight": "names and shapes"})
        assert model is not None


@pytest.mark.parametrize("asked", [False, True])
def test_captures_are_observed_only_where_it_was_asked_for(asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMODELS_SAMPLE_ACCELERATOR", "1" if asked else "0")
    observed: list[str] = []
    observe = Observers.observe

    def counted(self: Observers, function: Any, what: str, *arguments: Any, **options: Any) -> bool:
        observed.append(getattr(function, "__qualname__", ""))
        return observe(self, function, what, *arguments, **options)

    monkeypatch.setattr(Observers, "observe", counted)
    gpumodels.start(directory=tmp_path)
    gpumodels.stop()
    assert "Module.load_state_dict" in observed
    assert ("Graph.capture_begin" in observed) is asked
