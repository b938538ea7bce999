"""Memory on a device that another process owns counts there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing import reductions as torch_reductions

from gpumodels.models.allocators import DeviceCounters, device_memory
from gpumodels.models.imported_memory import REDUCTIONS, imported_storages
from gpumodels.models.training_state import NonModelBytes
from gpumodels_shared.schema import Model
from modules import Attached, a_fake, attached

MIB = 1024**2
reductions: Any = torch_reductions
"""Untyped functions."""


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty cache in the place of torch's."""
    cache = reductions.SharedCache()
    monkeypatch.setattr(reductions, "shared_cache", cache)
    return cache


@pytest.fixture
def sidecar() -> Iterator[Attached]:
    with attached() as parts:
        yield parts
        assert parts.failures.count == 0


class Net(nn.Module):
    """Two layers of 32 MiB on a device."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("first", "second"):
            layer = nn.Module()
            layer.weight = nn.Parameter(a_fake((16 * MIB,), "cuda:0"), requires_grad=False)
            self.add_module(name, layer)


def received(cache: Any, layer: Any, handle: bytes = b"handle") -> None:
    """As torch notes it."""
    cache[handle, 512] = reductions.StorageWeakRef(layer.weight.untyped_storage())


def the_model(sidecar: Attached) -> Model:
    (found,) = sidecar.models()
    return found


def test_what_was_received_counts_in_the_process_that_sent_it(sidecar: Attached, cache: Any) -> None:
    net = Net()
    before = the_model(sidecar)
    assert (dict(before.bytes_by_device), before.imported_bytes) == ({"cuda:0": 64 * MIB}, 0)
    received(cache, net.first)
    found = the_model(sidecar)
    assert (found.id, dict(found.bytes_by_device), found.imported_bytes) == (before.id, {"cuda:0": 32 * MIB}, 32 * MIB)
    assert (found.offloaded_bytes, found.asleep_bytes, found.asleep_in) == (0, 0, None)
    counters = {"cuda:0": DeviceCounters(40 * MIB, 48 * MIB)}
    (memory,) = device_memory((found,), NonModelBytes(), counters, asleep=sidecar.sleeping_memory.asleep)
    assert (memory.models_bytes, memory.allocated_bytes, memory.other_bytes) == (32 * MIB, 40 * MIB, 8 * MIB)


def test_a_model_that_was_received_runs_on_its_device_and_has_its_own_copy_back_when_it_is_cloned(
    sidecar: Attached, cache: Any
) -> None:
    net: Any = Net()
    for layer in (net.first, net.second):
        received(cache, layer, b"of " + str(id(layer)).encode())
    found = the_model(sidecar)
    assert (found.device, dict(found.bytes_by_device), found.imported_bytes) == ("cuda:0", {}, 64 * MIB)
    for layer in (net.first, net.second):
        layer.weight = nn.Parameter(a_fake((16 * MIB,), "cuda:0"), requires_grad=False)
    assert (the_model(sidecar).imported_bytes, the_model(sidecar).on_device_bytes) == (0, 64 * MIB)


def test_what_was_sent_is_the_senders(sidecar: Attached, cache: Any) -> None:
    net: Any = Net()
    cache[b"handle"] = reductions.StorageWeakRef(net.first.weight.untyped_storage())
    assert (the_model(sidecar).imported_bytes, the_model(sidecar).on_device_bytes) == (0, 64 * MIB)


def test_torch_notes_what_it_receives_as_is_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    class Received:
        @classmethod
        def _new_shared_cuda(cls, *_arguments: object) -> torch.UntypedStorage:
            return torch.empty(64, dtype=torch.uint8).untyped_storage()

    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    rebuilt = reductions.rebuild_cuda_tensor(
        torch.Tensor, (16,), (1,), 0, Received, torch.float32, 0, b"handle", 64, 512, False, b"counter", 0, b"event", False
    )
    assert imported_storages() == {rebuilt.untyped_storage()._cdata}


def test_host_memory_that_processes_share_is_nobodys_in_particular(sidecar: Attached, cache: Any) -> None:
    tensor = torch.ones(MIB)
    net = nn.Module()
    received = ForkingPickler.loads(bytes(ForkingPickler.dumps(tensor)))
    net.weight = nn.Parameter(received, requires_grad=False)
    assert received.is_shared()
    assert len(cache) == 1
    found = the_model(sidecar)
    assert (dict(found.bytes_by_device), found.imported_bytes) == ({"cpu": 4 * MIB}, 0)


@pytest.mark.parametrize("table", [None, [], {}, {(b"a", 1): None}, {(b"a", 1): "x"}, {1: 2}, {(1, 2): 3}])
def test_a_cache_of_another_form_tells_nothing(table: object, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType(REDUCTIONS)
    module.shared_cache = table
    monkeypatch.setitem(sys.modules, REDUCTIONS, module)
    assert imported_storages() == frozenset()
    monkeypatch.delitem(sys.modules, REDUCTIONS)
    assert imported_storages() == frozenset()
