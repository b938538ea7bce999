"""Notes which weights libraries write to files of their own to free memory, and carries origins over while these are away.

diffusers' group offloading to disk leaves uninitialised memory in place of the weights, accelerate's disk offload tensors on
`meta`; both read the weights back for each forward pass. diffusers 0.42 never writes a group again while its file exists: of two
models in one folder, and of a model in the folder of an earlier run, it reads the first one's weights back.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any

from gpumodels.observing.observers import Observers
from gpumodels.observing.open_calls import OpenCalls
from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.mapped_storages import PATH_TYPES
from gpumodels.provenance.origin import NO_OBSERVED_FILE, Origin
from gpumodels.provenance.origin_tracker import OriginTracker, absolute
from gpumodels.support.instances import is_a, state_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import without_modes

_TensorOfGroup = tuple["weakref.ref[Any] | None", "Origin | None", "RawSample | None"]
"""A tensor of a group before it is written or read: its storage, its origin, and a sample."""


@never_pickled
class DiskOffloading:
    """Observes offloading to disk in diffusers and accelerate, and updates the provenance."""

    def __init__(self, torch: ModuleType, origin_tracker: OriginTracker) -> None:
        self._tensor_type: type = torch.Tensor
        self._origin_tracker = origin_tracker
        self._without_modes = without_modes(torch)
        self._calls: OpenCalls[list[_TensorOfGroup]] = OpenCalls()

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """By module name, functions that begin to observe the module's functions, to be called once it is imported."""

        def diffusers(module: ModuleType) -> None:
            group = getattr(module, "ModuleGroup", None)
            for name, ended in (("_offload_to_disk", self._group_written), ("_onload_from_disk", self._group_read)):
                observers.observe(getattr(group, name, None), "noting origins of a group on disk", self._group_moves, ended)

        def accelerate(module: ModuleType) -> None:
            observers.observe(module.offload_weight, "noting what accelerate writes", started=self._weight_saved)

        return {"diffusers.hooks.group_offloading": diffusers, "accelerate.utils.offload": accelerate}

    def _group_moves(self, frame: FrameType) -> None:
        self._calls.end(frame)  # left by an earlier call that raised
        if self._origin_tracker.active:
            group = frame.f_locals["self"]
            if (path := _path_of(group)) is not None:
                self._origin_tracker.own_files.add_offload_path(path)
            with self._without_modes():
                self._calls.begin(frame, [self._before(tensor) for tensor in _tensors_of(group)])

    def _group_written(self, frame: FrameType, _result: Any) -> None:
        self._group_moved(frame, is_away=True)

    def _group_read(self, frame: FrameType, _result: Any) -> None:
        self._group_moved(frame, is_away=False)

    def _group_moved(self, frame: FrameType, is_away: bool) -> None:
        before = self._calls.end(frame)
        if before:
            group = frame.f_locals["self"]
            if is_away and not self._holds_these(_path_of(group), before):
                before = [(ref, NO_OBSERVED_FILE, None) for ref, _, _ in before]
            with self._without_modes():
                self._carry_over(before, _tensors_of(group), is_away)

    def _holds_these(self, path: str | None, tensors: Sequence[_TensorOfGroup]) -> bool:
        """Whether this process wrote the file at this path from these tensors."""
        own = self._origin_tracker.own_files.get(path) if path is not None else None
        if own is None:
            return False
        samples = [sample for _, _, sample in tensors if sample is not None]
        if samples:
            return all(hash(sample) in own.hashes for sample in samples)
        return own.sources == {origin.path for _, origin, _ in tensors if origin is not None and origin.path}

    def _before(self, tensor: Any) -> _TensorOfGroup:
        origin_tracker, tensors = self._origin_tracker, self._origin_tracker.tensors
        storage = tensors.storage_of(tensor) if self._tensor_type in type(tensor).__mro__ else None
        if storage is None:
            return None, None, None
        origin = origin_tracker.current_origin(tensor, storage)
        sample = tensors.sample(storage, tensor)
        if sample is None and not tensors.is_placeholder(storage):
            sample = origin_tracker.sampler.take(tensor)
        return weakref.ref(storage), origin, sample

    def _carry_over(self, before: Sequence[_TensorOfGroup], now: Sequence[Any], is_away: bool) -> None:
        tensors = self._origin_tracker.tensors
        for (ref, origin, sample), tensor in zip(before, now, strict=False):
            storage = tensors.storage_of(tensor) if ref is not None else None
            if storage is None or ref is None or ref() is storage:
                continue
            if is_away:
                tensors.put_placeholder(storage)
            if origin is not None:
                tensors.put_origin(storage, origin)
            if sample is not None:
                tensors.put_sample(storage, tensor, sample)

    def _weight_saved(self, frame: FrameType) -> None:
        """`offload_weight(weight, weight_name, offload_folder)` is called: it writes a file of raw values."""
        arguments = frame.f_locals
        folder, name, weight = arguments["offload_folder"], arguments["weight_name"], arguments["weight"]
        if self._origin_tracker.active and type(name) is str and (type(folder) is str or type(folder) in PATH_TYPES):
            with self._without_modes():
                self._origin_tracker.note_saved(absolute(os.path.join(folder, f"{name}.dat")), [weight])  # noqa: PTH118


def _path_of(group: Any) -> str | None:
    """The file of one of diffusers' module groups; None if it has none."""
    path = state_of(group).get("safetensors_file_path")
    return absolute(path) if type(path) is str or type(path) in PATH_TYPES else None


def _tensors_of(group: Any) -> list[Any]:
    """The tensors of one of diffusers' module groups, in an order that stays."""
    keys = state_of(group).get("tensor_to_key")
    return list(dict.keys(keys)) if is_a(keys, dict) else []
