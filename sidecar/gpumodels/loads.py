"""What `load_state_dict` brings: where the values of a state dict came from is looked up before it is loaded, and noted after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from gpumodels.failures import Failures
from gpumodels.origins import ELSEWHERE, STATE_DICT, Origin
from gpumodels.sampling import RawSample
from gpumodels.weak_table import WeakTable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gpumodels.provenance import Provenance


class _Given(NamedTuple):
    """One tensor of a state dict, before it is loaded."""

    origin: Origin | None
    storage: int
    shape: tuple[int, ...]
    sample: RawSample | None
    is_out_of_reach: bool
    """Its values can't be seen."""


class Loads:
    """Listens to loads, and tells the provenance of them."""

    def __init__(self, torch: ModuleType, provenance: Provenance, failures: Failures) -> None:
        self._torch = torch
        self._provenance = provenance
        self._failures = failures
        self._read_for: WeakTable[tuple[str, ...]] = WeakTable()
        """By module, of whose values nothing was seen when they were loaded: the files that were read just before."""

    def around(self, original: Callable[..., Any], touched: Callable[[], None]) -> Callable[..., Any]:
        """`Module.load_state_dict`: the values are copied, so where they came from is looked up before and noted after."""

        def load_state_dict(module: nn.Module, state_dict: Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
            given: dict[str, _Given] | None = None
            if self._provenance.active:
                with self._failures.guard("reading a state dict's origins"):
                    given = self._look_at(state_dict)
            is_done = False
            try:
                result = original(module, state_dict, *arguments, **options)
                is_done = True
                return result
            finally:  # torch copies all that fits before it complains of the rest
                if self._provenance.active:
                    with self._failures.guard("noting a state dict's origins"):
                        self._note_loaded(module, given, is_done)
                        self._provenance.version += 1
                    touched()

        return load_state_dict

    def read_for(self, *modules: Any) -> tuple[str, ...] | None:
        """The files that were read just before values were loaded that weren't seen; None where there was no such load."""
        known = [self._read_for.get(module) for module in modules if module is not None]
        return next((read for read in known if read is not None), None)

    def _look_at(self, state_dict: Mapping[str, Any]) -> dict[str, _Given] | None:
        """What is known of the dictionary's tensors; None of what is no dictionary, and may run anything when it is looked at."""
        if not isinstance(state_dict, dict):
            return None
        found: dict[str, _Given] = {}
        provenance = self._provenance
        for key, tensor in dict.items(state_dict):
            if type(tensor) in provenance.plain_types:
                storage = tensor.untyped_storage()._cdata
                # Not remembered of the dictionary's tensors, most of which die as soon as they are copied from.
                origin = provenance.known(tensor) or provenance.origin_of_storage(storage) or provenance.mapped_origin(tensor)
                sample = provenance.sampler.take(tensor) if origin is None else None
                found[key] = _Given(origin, storage, tensor.shape, sample, not tensor.is_cpu)
            elif isinstance(tensor, self._torch.Tensor):
                found[key] = _Given(provenance.known(tensor), 0, tensor.shape, None, False)
        return found

    def _note_loaded(self, module: nn.Module, given: Mapping[str, _Given] | None, is_done: bool) -> None:
        """What was loaded is where the values are from now; of an unfinished load, what fits."""
        provenance = self._provenance
        read = provenance.files_read.taken_since_load()
        if given is None or any(one.is_out_of_reach and one.origin is None for one in given.values()):
            self._read_for.put(module, read)
        else:
            self._read_for.take(module)
        if given is None:
            for tensor in _tensors_below(module):
                provenance.put(tensor, ELSEWHERE, None)
            return
        owners: dict[str, dict[str, Any] | None] = {}
        for key, (origin, storage, shape, sample, _) in given.items():
            path, _, name = key.rpartition(".")
            if path not in owners:
                owners[path] = _state_at(module, path)
            owner = owners[path]
            if owner is None:
                continue
            tensor = owner["_parameters"].get(name)
            if tensor is None:
                tensor = owner["_buffers"].get(name)
            if tensor is None or not (is_done or tensor.shape == shape):
                continue
            known = provenance.known(tensor)
            if storage and type(tensor) in provenance.plain_types and tensor.untyped_storage()._cdata == storage:
                if known is None:  # assigned, not copied: the values are where they were
                    provenance.put(tensor, origin, sample)
            elif origin is None or origin is ELSEWHERE:
                provenance.put(tensor, ELSEWHERE, sample)
            elif known is None or (known.path, known.source, known.stamp) != (origin.path, STATE_DICT, origin.stamp):
                provenance.put(tensor, provenance.origin(origin.path, STATE_DICT, origin.stamp), None)


def _tensors_below(module: nn.Module) -> Iterator[Tensor]:
    """All parameters and buffers of the tree."""
    waiting, met = [module], {id(module)}
    while waiting:
        state = waiting.pop().__dict__
        for table in (state["_parameters"], state["_buffers"]):
            yield from (tensor for tensor in table.values() if tensor is not None)
        for child in state["_modules"].values():
            if child is not None and id(child) not in met:
                met.add(id(child))
                waiting.append(child)


def _state_at(module: nn.Module, path: str) -> dict[str, Any] | None:
    """What the module at this path of a state dict's key holds."""
    owner: Any = module
    for part in path.split(".") if path else ():
        owner = owner.__dict__["_modules"].get(part)
        if owner is None:
            return None
    state: dict[str, Any] = owner.__dict__
    return state
