"""Carries origins and samples over to the new storages that moves and casts (`Module.to`, `.cuda()`, `.half()`) create.

The methods that users call are observed, which are called once per move, not `_apply`, which calls itself for every module.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from gpumodels.observing.observers import Observers
from gpumodels.observing.open_calls import OpenCalls
from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.origin import NO_OBSERVED_FILE, Origin
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.accelerators import ACCELERATORS
from gpumodels.support.instances import state_getter
from gpumodels.support.module_tables import entries_of, entry, tables_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import without_modes
from gpumodels.tensors.tensor_storages import UNREADABLE

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage

MOVING_METHODS: Final = ("to", *ACCELERATORS, "cpu", "ipu", "mtia", "half", "float", "double", "bfloat16", "type")
"""The methods of `torch.nn.Module` that move or cast; `to_empty` and `share_memory` don't copy values to new storages."""


_TensorBeforeMove = tuple[Any, str, "weakref.ref[Any]", "Origin | None", "RawSample | None"]
"""A tensor before a move: the table that holds it and its name there, its storage, its origin, and a sample if it has no
origin."""


@never_pickled
class Moves:
    """Observes moves, and updates the provenance."""

    def __init__(self, torch: ModuleType, origin_tracker: OriginTracker, touched: Callable[[Any], None]) -> None:
        """`touched`: called with each module that was moved or cast."""
        self._origin_tracker = origin_tracker
        self._touched = touched
        self._without_modes = without_modes(torch)
        self._state_of_module = state_getter(torch.nn.Module)
        self._calls: OpenCalls[list[_TensorBeforeMove]] = OpenCalls()

    def observe(self, observers: Observers, module_type: Any) -> None:
        """Begin to observe moves of modules."""
        for name in MOVING_METHODS:
            method = vars(module_type).get(name)
            if method is not None:
                observers.observe(method, "noting origins of what moves", self._move_began, self._move_ended)

    def _move_began(self, frame: FrameType) -> None:
        self._calls.end(frame)  # left by an earlier call that raised: what it moved until then loses its origin
        origin_tracker = self._origin_tracker
        if origin_tracker.active and (len(origin_tracker.tensors) or origin_tracker.files_read.version):
            with self._without_modes():
                tensors = self._tensors_below(frame.f_locals["self"])
            if tensors:
                self._calls.begin(frame, tensors)

    def _move_ended(self, frame: FrameType, _result: Any) -> None:
        moved = self._calls.end(frame)
        if moved:
            with self._without_modes():
                self._carry_over(moved)
        self._touched(frame.f_locals["self"])

    def _tensors_below(self, root: Any) -> list[_TensorBeforeMove]:
        """The tree's tensors with their origins. Weights without one are sampled if there are files to compare them with."""
        found: list[_TensorBeforeMove] = []
        tensors = self._origin_tracker.tensors
        origin_of, plain_types = tensors.origins_by_id.get, tensors.plain_types
        waiting, met, state_of = [root], {id(root)}, self._state_of_module
        while waiting:
            tables = tables_of(state_of(waiting.pop()))
            for table in (tables.parameters, tables.buffers):
                for name, tensor in entries_of(table):
                    if type(tensor) in plain_types:  # inlined: runs for a thousand tensors per move
                        try:
                            ref = origin_of(id(tensor.untyped_storage()))
                        except UNREADABLE:
                            continue
                        if ref is not None and ref.value is not NO_OBSERVED_FILE:
                            found.append((table, name, ref, ref.value, None))
                            continue
                    storage = tensors.storage_of(tensor)
                    if storage is not None and (noted := self._note_before_move(table, name, tensor, storage)) is not None:
                        found.append(noted)
            for _, child in entries_of(tables.modules):
                if id(child) not in met:
                    met.add(id(child))
                    waiting.append(child)
        return found

    def _note_before_move(self, table: Any, name: str, tensor: Tensor, storage: UntypedStorage) -> _TensorBeforeMove | None:
        """The origin, or else a sample, of a tensor that has no noted origin; None if neither can be had."""
        origin_tracker, tensors = self._origin_tracker, self._origin_tracker.tensors
        origin = origin_tracker.current_origin(tensor, storage)
        sample = None
        if origin is None or origin is NO_OBSERVED_FILE:
            sample = tensors.sample(storage, tensor)
            if sample is None and origin_tracker.files_read.version and type(tensor) in tensors.plain_types and tensor.dim() > 1:
                sample = origin_tracker.sampler.take(tensor)
        return None if sample is None and origin is None else (table, name, weakref.ref(storage), origin, sample)

    def _carry_over(self, moved: list[_TensorBeforeMove]) -> None:
        tensors = self._origin_tracker.tensors
        storage_of, origins, plain_types = tensors.storage_of, tensors.origins_by_id, tensors.plain_types
        for table, name, before, origin, sample in moved:
            tensor = entry(table, name)
            if tensor is None:
                continue
            try:
                storage = tensor.untyped_storage() if type(tensor) in plain_types else storage_of(tensor)
            except UNREADABLE:
                continue
            if storage is None or before() is storage:
                continue
            if origin is not None and id(storage) not in origins:
                tensors.put_origin(storage, origin)
                tensors.note_filled(storage, tensor)
            if sample is not None and tensors.sample(storage, tensor) is None:
                tensors.put_sample_of_copied(storage, tensor, sample)
