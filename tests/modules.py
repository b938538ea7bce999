"""Builders for tests of the sidecar inside the test's own process: modules on devices that don't exist, and one scan of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from gpumodels.hooks.comfy_nodes import ComfyNodes
from gpumodels.hooks.stage_events import StageEvents
from gpumodels.hooks.torch_hooks import TorchHooks
from gpumodels.models.assembling import FoundModel
from gpumodels.models.comfy_dynamic_memory import ComfyDynamicMemory
from gpumodels.models.comfy_loras import ComfyLoras
from gpumodels.models.comfy_manager import ComfyManager
from gpumodels.models.scan import Scanner
from gpumodels.models.sleeping_memory import SleepingMemory
from gpumodels.models.training_state import NonModelBytes, TrainingState
from gpumodels.naming.model_names import ModelNames
from gpumodels.naming.pipeline_slots import PipelineSlots
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.publishing.snapshot_models import SnapshotModels
from gpumodels.publishing.stages import Stages
from gpumodels.support.accelerator_memory import MainAccelerator
from gpumodels.support.failures import Failures
from gpumodels.tensors.module_reader import ModuleReader
from gpumodels.tensors.tensor_storages import TensorReader
from gpumodels_shared.schema import Model

_MODE = FakeTensorMode()

ADDRESSES: dict[int, int] = {}
"""By a storage's identity, where it would be if it were on a device."""


def a_fake(shape: tuple[int, ...], device: str, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """A tensor that reports this device and takes no memory."""
    fake: torch.Tensor = FakeTensor(_MODE, torch.empty(shape, dtype=dtype, device="meta"), torch.device(device))
    return fake


class Block(nn.Module):
    """Two linears and a norm, with nothing in the norm."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)


class Backbone(nn.Module):
    """Some blocks."""

    def __init__(self, blocks: int = 3, width: int = 256) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))


@dataclass
class Attached:
    """The sidecar's parts, attached to the test's torch, without its thread."""

    failures: Failures
    registry: ModuleRegistry
    origin_tracker: OriginTracker
    scanner: Scanner
    training_state: TrainingState
    comfy_loras: ComfyLoras
    dynamic_memory: ComfyDynamicMemory
    pipeline_slots: PipelineSlots
    hooks: TorchHooks
    model_names: ModelNames
    snapshot_models: SnapshotModels
    comfy_manager: ComfyManager
    sleeping_memory: SleepingMemory
    stages: Stages
    scanned_provenance: int = 0

    def scan(self, pause: Callable[[], None] = lambda: None, afresh: bool = False) -> list[FoundModel]:
        """What lives now."""
        self.origin_tracker.read_kernel_mappings()
        self.hooks.loads.finish_raised_loads()
        afresh = afresh or self.origin_tracker.version != self.scanned_provenance
        self.scanned_provenance = self.origin_tracker.version
        try:
            found = self.scanner.scan(pause, afresh)
            found = self.comfy_loras.with_adapters(found, pause)
            self.dynamic_memory.update(found, pause)
            self.sleeping_memory.update(found, pause)
            return found
        finally:
            self.origin_tracker.forget_kernel_mappings()

    def parts(self) -> NonModelBytes:
        """What is held beside the models."""
        self.scan()
        return self.scanner.measure(self.training_state, lambda: None)

    def models(self, now_ns: int = 0) -> tuple[Model, ...]:
        """What a snapshot would hold, once all names are found."""
        self.stages.update()
        self.stages.find_files(lambda: None)
        return self.described(self.scan(), now_ns)

    def described(self, found: Sequence[FoundModel], now_ns: int = 0) -> tuple[Model, ...]:
        """The same of these."""
        self.model_names.begin(found)
        for one in found:
            core = self.registry.ref(one.core)
            with self.failures.guard("naming a model"), suppress(ReferenceError):
                if core is not None:
                    self.model_names.find_out(one, core)
        self.comfy_manager.update(found)
        shown, managed = {**self.sleeping_memory.shown, **self.dynamic_memory.shown}, self.comfy_manager.managed
        return self.snapshot_models.models(found, now_ns, shown=shown, managed=managed)


@contextmanager
def attached(pause: Callable[[], None] = lambda: None) -> Iterator[Attached]:
    """Attach to torch, and leave it as it was. Modules made before are unknown, so tests don't see each other's."""
    gc.collect()
    failures = Failures()
    registry = ModuleRegistry()
    origin_tracker = OriginTracker(torch)
    tensor_reader = TensorReader(torch, origin_tracker, failures)
    training_state = TrainingState(torch, tensor_reader, failures)
    loras, pipelines = ComfyLoras(tensor_reader, failures, registry.request_scan), PipelineSlots(failures)
    manager = ComfyManager(loras.patchers, failures)
    events = StageEvents(registry)
    events.measure(MainAccelerator(torch), manager.paged_memory)
    nodes = ComfyNodes(events)
    hooks = TorchHooks(torch, registry, origin_tracker, (pipelines, training_state, loras, nodes), failures)
    try:
        reader = ModuleReader(tensor_reader)
        dynamic = ComfyDynamicMemory(registry, reader.paged_models, tensor_reader, failures, time.monotonic)
        scanner = Scanner(registry, reader, failures)
        model_names = ModelNames(registry, origin_tracker, pipelines, failures, pause)
        models = SnapshotModels(registry, model_names, failures)
        stages = Stages(events, origin_tracker.files_named)
        parts = (failures, registry, origin_tracker, scanner, training_state, loras, dynamic, pipelines, hooks)
        sleeping = SleepingMemory(registry, tensor_reader, failures, lambda storage: ADDRESSES.get(storage._cdata, 0))
        yield Attached(*parts, model_names, models, manager, sleeping, stages)
    finally:
        hooks.remove()
        origin_tracker.close()


@contextmanager
def frozen() -> Iterator[None]:
    """As in a server that forks after loading: the garbage collector says nothing of what is there."""
    were_frozen = gc.get_freeze_count() > 0
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if were_frozen:
            gc.freeze()


def distinct_bytes(*modules: nn.Module, device: str | None = None) -> int:
    """The sum that the tests do by hand: each storage of parameters and buffers once."""
    seen: dict[int, int] = {}
    for module in modules:
        for tensor in [*module.parameters(), *module.buffers()]:
            if device is None or str(tensor.device) == device:
                storage = tensor.untyped_storage()
                seen[storage._cdata] = storage.nbytes()
    return sum(seen.values())


def the_only(sidecar: Attached) -> FoundModel:
    (found,) = sidecar.scan()
    return found


def rows(sidecar: Attached) -> list[tuple[str, dict[str, int]]]:
    """What a scan finds, without what holds nothing."""
    return [(found.class_name, dict(found.bytes_by_device)) for found in sidecar.scan()]


def by_class(models: tuple[Model, ...]) -> dict[str, Model]:
    return {model.class_name: model for model in models}


class Stack:
    """A plain object that holds modules."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers


class Slotted:
    __slots__ = ("layers",)

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
