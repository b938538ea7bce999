"""What `Module.load_state_dict` brings: where its values came from is looked up when it begins, and noted when it ends."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from gpumodels.observing.observers import Observers
from gpumodels.observing.open_calls import OpenCalls
from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.origin import ELSEWHERE, STATE_DICT, Origin
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.instances import state_of
from gpumodels.support.resident import resident
from gpumodels.support.torch_private import without_modes

if TYPE_CHECKING:
    from torch import Tensor, nn


_LoadedTensor = tuple["Origin | None", "weakref.ref[Any] | None", tuple[int, ...], "RawSample | None", bool]
"""One tensor of a state dict before it is loaded: where its values came from, its storage if it is a plain tensor, its shape, its
first values if nothing else is known of it, and whether its values can be seen."""


@resident
class _Begun(NamedTuple):
    """A load that hasn't come back yet."""

    module: weakref.ref[Any]
    given: Mapping[str, _LoadedTensor] | None


@resident
class StateDictLoads:
    """Observes loads, and tells the provenance of them."""

    def __init__(self, torch: ModuleType, origin_tracker: OriginTracker, loaded: Callable[[Any], None]) -> None:
        """`loaded` is given the module when a load is done."""
        self._tensor_type: type = torch.Tensor
        self._origin_tracker = origin_tracker
        self._loaded = loaded
        self._without_modes = without_modes(torch)
        self._calls: OpenCalls[_Begun] = OpenCalls()

    def observe(self, observers: Observers, module_type: Any) -> None:
        """Begin."""
        load = module_type.load_state_dict
        observers.observe(load, "noting a state dict's origins", self._load_began, self._load_ended)

    def finish_what_raised(self) -> None:
        """Of loads that raised: torch copies all that fits before it complains of the rest."""
        for begun in self._calls.take_raised():
            self._finish(begun, is_done=False)

    def _load_began(self, frame: FrameType) -> None:
        if self._origin_tracker.active:
            arguments = frame.f_locals
            with self._without_modes():
                given = self._look_at(arguments["state_dict"])
            left = self._calls.end(frame)
            if left is not None:  # another one's, which raised, and whose frame was where this one is
                self._finish(left, is_done=False)
            self._calls.begin(frame, _Begun(weakref.ref(arguments["self"]), given))

    def _load_ended(self, frame: FrameType, _result: Any) -> None:
        begun = self._calls.end(frame)
        if begun is not None and self._origin_tracker.active:
            self._finish(begun, is_done=True)

    def _finish(self, begun: _Begun, is_done: bool) -> None:
        module = begun.module()
        if module is None:
            return
        with self._without_modes():
            self._note_loaded(module, begun.given, is_done)
        self._origin_tracker.version += 1
        self._loaded(module)

    def _look_at(self, state_dict: Any) -> dict[str, _LoadedTensor] | None:
        """What is known of the dictionary's tensors; None of what is no dictionary, and may run anything when it is looked at."""
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

    def _note_loaded(self, module: nn.Module, given: Mapping[str, _LoadedTensor] | None, is_done: bool) -> None:
        """What was loaded is where the values are from now; of an unfinished load, what fits."""
        origin_tracker = self._origin_tracker
        read = origin_tracker.files_read.taken_since_load()
        if given is None or not all(is_seen for _, _, _, _, is_seen in given.values()):
            origin_tracker.unseen_loads.put(module, read)
        else:
            origin_tracker.unseen_loads.take(module)
        if given is None:
            for one_below in _tensors_below(module):
                origin_tracker.tensors.put_origin(origin_tracker.tensors.storage_of(one_below), ELSEWHERE)
            return
        owners: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        for key, one in given.items():
            path, _, name = key.rpartition(".")
            owner = owners.get(path)
            if owner is None:
                owner = owners[path] = _tables_at(module, path)
            tensor: Any = owner[0].get(name)
            if tensor is None:
                tensor = owner[1].get(name)
            if tensor is not None and (is_done or tensor.shape == one[2]):
                self._note_tensor(tensor, one)

    def _note_tensor(self, tensor: Tensor, given: _LoadedTensor) -> None:
        origin, before, _, sample, _ = given
        tensors = self._origin_tracker.tensors
        storage = tensors.storage_of(tensor)
        if storage is not None and before is not None and before() is storage:
            if origin is not None and id(storage) not in tensors.origins_by_id:
                tensors.put_origin(storage, origin)  # assigned, not copied: the values are where they were
        elif origin is None or origin is ELSEWHERE:
            tensors.put_origin(storage, ELSEWHERE)
        else:
            tensors.put_origin(storage, self._origin_tracker.one_origin(origin.path, STATE_DICT, origin.stamp))
        if sample is not None:
            tensors.put_sample(storage, tensor, sample)


def _tensors_below(module: nn.Module) -> Iterator[Tensor]:
    """All parameters and buffers of the tree."""
    waiting, met = [module], {id(module)}
    while waiting:
        state = state_of(waiting.pop())
        for table in (state["_parameters"], state["_buffers"]):
            yield from (tensor for tensor in table.values() if tensor is not None)
        for child in state["_modules"].values():
            if child is not None and id(child) not in met:
                met.add(id(child))
                waiting.append(child)


def _tables_at(module: nn.Module, path: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Parameters and buffers of the module at this path of a state dict's key; nothing where there is none."""
    owner: Any = module
    for part in path.split(".") if path else ():
        owner = state_of(owner)["_modules"].get(part)
        if owner is None:
            return {}, {}
    state = state_of(owner)
    return state["_parameters"], state["_buffers"]
