"""Notes where the values loaded by `Module.load_state_dict` came from: looked up when a load begins, applied when it ends.

PEFT's hot swap, by which diffusers exchanges adapters, too, copies a state dict into an adapter without that method.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from gpumodels.observing.observers import Observers
from gpumodels.observing.open_calls import OpenCalls
from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.origin import NO_OBSERVED_FILE, STATE_DICT, Origin
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.instances import state_of
from gpumodels.support.module_tables import NO_TABLES, ModuleTables, entries_of, entry, tables_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import without_modes

if TYPE_CHECKING:
    from torch import Tensor, nn


_LoadedTensor = tuple["Origin | None", "weakref.ref[Any] | None", tuple[int, ...], "RawSample | None", bool]
"""A tensor of a state dict before it is loaded: its origin, its storage if it is a plain tensor, its shape, a sample if it has no
origin, and whether its values are observable: their origin is known, or they are in host memory."""


@never_pickled
class _OpenLoad(NamedTuple):
    """A load that hasn't returned yet."""

    module: weakref.ref[Any]
    tensors: Mapping[str, _LoadedTensor] | None
    """By key of the state dict; None if that isn't a dict."""


@never_pickled
class StateDictLoads:
    """Observes loads of state dicts, and updates the provenance."""

    def __init__(self, torch: ModuleType, origin_tracker: OriginTracker, loaded: Callable[[Any], None]) -> None:
        """`loaded`: called with the module after each load."""
        self._tensor_type: type = torch.Tensor
        self._origin_tracker = origin_tracker
        self._loaded = loaded
        self._without_modes = without_modes(torch)
        self._calls: OpenCalls[_OpenLoad] = OpenCalls()
        self._swaps: OpenCalls[_OpenLoad] = OpenCalls()

    def observe(self, observers: Observers, module_type: Any) -> None:
        """Begin to observe `load_state_dict` of this class of modules."""
        load = module_type.load_state_dict
        observers.observe(load, "noting a state dict's origins", self._load_began, self._load_ended)

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """PEFT's module that swaps adapters, with the function to call once it is imported."""

        def hotswap(module: ModuleType) -> None:
            swap = module.hotswap_adapter_from_state_dict
            observers.observe(swap, "noting a hot swap's origins", self._swap_began, self._swap_ended)

        return {"peft.utils.hotswap": hotswap}

    def finish_raised_loads(self) -> None:
        """Note the origins of what loads that raised have loaded: torch copies all tensors that fit before it raises."""
        for load in self._calls.take_raised():
            self._finish(load, is_complete=False)
        self._swaps.take_raised()  # it raises before it copies anything

    def _load_began(self, frame: FrameType) -> None:
        if self._origin_tracker.active:
            arguments = frame.f_locals
            with self._without_modes():
                tensors = self._tensors_of(arguments["state_dict"])
                if tensors and len(self._origin_tracker.own_files):
                    self._note_returned(arguments["self"], tensors)
            raised = self._calls.end(frame)
            if raised is not None:  # an earlier load that raised, whose frame had the same id
                self._finish(raised, is_complete=False)
            self._calls.begin(frame, _OpenLoad(weakref.ref(arguments["self"]), tensors))

    def _load_ended(self, frame: FrameType, _result: Any) -> None:
        load = self._calls.end(frame)
        if load is not None and self._origin_tracker.active:
            self._finish(load, is_complete=True)

    def _swap_began(self, frame: FrameType) -> None:
        """PEFT is about to copy a state dict into an adapter; its keys lead to the tensors, as in the model inside a wrapper."""
        if self._origin_tracker.active:
            arguments = frame.f_locals
            with self._without_modes():
                tensors = self._tensors_of(arguments["state_dict"])
            self._swaps.begin(frame, _OpenLoad(weakref.ref(_compiled(arguments["model"])), tensors))

    def _swap_ended(self, frame: FrameType, _result: Any) -> None:
        swap = self._swaps.end(frame)
        if swap is not None and self._origin_tracker.active:
            self._finish(swap, is_complete=True)

    def _finish(self, load: _OpenLoad, is_complete: bool) -> None:
        module = load.module()
        if module is None:
            return
        with self._without_modes():
            self._note_loaded(module, load.tensors, is_complete)
        self._origin_tracker.version += 1
        self._loaded(module)

    def _tensors_of(self, state_dict: Any) -> dict[str, _LoadedTensor] | None:
        """What is known of the state dict's tensors; None if it isn't a dict, as reading it might run foreign code."""
        if dict not in type(state_dict).__mro__:
            return None
        found: dict[str, _LoadedTensor] = {}
        origin_tracker, tensors = self._origin_tracker, self._origin_tracker.tensors
        plain_types, storage_of, origins = tensors.plain_types, tensors.storage_of, tensors.origins_by_id
        for key, tensor in dict.items(state_dict):
            kind = type(tensor)
            if kind in plain_types:
                storage = storage_of(tensor)
                known = origins.get(id(storage))
                if known is not None:
                    found[key] = known.value, known, tensor.shape, None, True
                    continue
                origin = origin_tracker.current_origin(tensor, storage)
                sample = origin_tracker.sampler.take(tensor) if origin is None else None
                ref = None if storage is None else weakref.ref(storage)
                found[key] = origin, ref, tensor.shape, sample, origin is not None or bool(tensor.is_cpu)
            elif self._tensor_type in kind.__mro__:
                found[key] = tensors.origin(storage_of(tensor)), None, tensor.shape, None, True
        return found

    def _note_returned(self, module: nn.Module, loaded: Mapping[str, _LoadedTensor]) -> None:
        """Note the files from which values come back that were saved from this module."""
        tensors, own_files = self._origin_tracker.tensors, self._origin_tracker.own_files
        for key, (origin, *_) in loaded.items():
            own = own_files.get(origin.path) if origin is not None else None
            if origin is None or own is None or not own.sources or own_files.is_returned(module, origin.path):
                continue
            tensor = _tensor_at(_tables_at(module, key.rpartition(".")[0]), key.rpartition(".")[2])
            former = None if tensor is None else self._origin_tracker.current_origin(tensor, tensors.storage_of(tensor))
            if former is not None and former.path in own.sources:
                own_files.add_returned(module, origin.path)

    def _note_loaded(self, module: nn.Module, loaded: Mapping[str, _LoadedTensor] | None, is_complete: bool) -> None:
        """Set the origins of the module's tensors; after a load that raised, only of those whose shapes fit."""
        origin_tracker = self._origin_tracker
        files_read = origin_tracker.files_read
        read = files_read.take_read_since_load()
        used = {origin.path for origin, *_ in (loaded or {}).values() if origin is not None and origin.path}
        if used:
            files_read.drop_explained(used.__contains__)
        if loaded is None or not all(is_observable for _, _, _, _, is_observable in loaded.values()):
            origin_tracker.unobserved_loads.put(module, read)
        else:
            origin_tracker.unobserved_loads.take(module)
        if loaded is None:
            for any_tensor in _tensors_below(module):
                origin_tracker.tensors.put_origin(origin_tracker.tensors.storage_of(any_tensor), NO_OBSERVED_FILE)
            return
        owners: dict[str, ModuleTables] = {}
        for key, source in loaded.items():
            path, _, name = key.rpartition(".")
            owner = owners.get(path)
            if owner is None:
                owner = owners[path] = _tables_at(module, path)
            tensor = _tensor_at(owner, name)
            _, _, shape, _, _ = source
            if tensor is not None and (is_complete or tensor.shape == shape):
                self._note_tensor(tensor, source)

    def _note_tensor(self, tensor: Tensor, source: _LoadedTensor) -> None:
        origin, before, _, sample, is_observable = source
        tensors = self._origin_tracker.tensors
        storage = tensors.storage_of(tensor)
        if storage is not None and before is not None and before() is storage:
            if origin is not None and tensors.origin(storage) is not origin:
                tensors.put_origin(storage, origin)  # the tensor was assigned, not copied: the values didn't move
        elif origin is None or origin is NO_OBSERVED_FILE:
            tensors.put_origin(storage, NO_OBSERVED_FILE)
        else:
            tensors.put_origin(storage, self._origin_tracker.shared_origin(origin.path, STATE_DICT, origin.stamp))
        tensors.note_filled(storage, tensor)
        if sample is not None:
            tensors.put_sample(storage, tensor, sample)
        elif origin is None and not is_observable:
            tensors.forget_samples(storage)  # they are of what was there before


def _compiled(module: Any) -> Any:
    """The module inside `torch.compile`'s wrapper, if it is one."""
    inner = entry(tables_of(state_of(module)).modules, "_orig_mod")
    return module if inner is None else inner


def _tensors_below(module: nn.Module) -> Iterator[Tensor]:
    """All parameters and buffers of the module and those below it."""
    waiting, met = [module], {id(module)}
    while waiting:
        tables = tables_of(state_of(waiting.pop()))
        for table in (tables.parameters, tables.buffers):
            yield from (tensor for _, tensor in entries_of(table))
        for _, child in entries_of(tables.modules):
            if id(child) not in met:
                met.add(id(child))
                waiting.append(child)


def _tensor_at(tables: ModuleTables, name: str) -> Any:
    """The parameter or buffer of this name; None if there is neither."""
    tensor = entry(tables.parameters, name)
    return entry(tables.buffers, name) if tensor is None else tensor


def _tables_at(module: nn.Module, path: str) -> ModuleTables:
    """The tables of the module at this dotted path of a state dict's key; empty if there is no such module."""
    owner: Any = module
    for part in path.split(".") if path else ():
        owner = entry(tables_of(state_of(owner)).modules, part)
        if owner is None:
            return NO_TABLES
    return tables_of(state_of(owner))
