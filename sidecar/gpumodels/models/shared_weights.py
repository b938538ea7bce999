"""Which of a model's weights are another model's, too, or were: a draft model isn't named by the embedding of its target.

Such weights say nothing about whose they are, and the file that they were loaded from would name both models. They are remembered
while the model lives, since it keeps them when the other one is gone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Set
from dataclasses import replace
from typing import Final, NamedTuple

from gpumodels.models.assembling import FoundModel, SharedWeights
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.weak_table import KeyedRef
from gpumodels.tensors.module_reader import ModuleReading

STEP: Final = 64
"""Modules processed between two points at which the work may be interrupted."""
NEGLIGIBLE: Final = 64
"""A model that holds less than one part in so many beside what it shares is a copy, with buffers of its own."""

_Slot = tuple[int, str]
"""The registry's key of a module, and the name under which it holds a tensor."""
_StorageKey = tuple[str, int]


@never_pickled
class _DescribedModel(NamedTuple):
    """A model as it was described last, and what that was made from: where nothing changed, it is described the same."""

    core: KeyedRef | None
    plain: FoundModel
    """The model as it was assembled."""
    shared: Set[_StorageKey]
    """Those of its storages that another model holds, too."""
    slots: Mapping[_Slot, tuple[_StorageKey, str | None]]
    """Where it holds what is shared, or was, with the storage and the path of the file that the values came from."""
    found: FoundModel
    """The model with what it shares."""


@never_pickled
class SharedWeightsFinder:
    """Remembers what living models share, or shared."""

    def __init__(self) -> None:
        self._known: dict[int, _DescribedModel] = {}
        """By the registry's key of the core."""
        self._last: list[FoundModel] = []
        """The models of the last scan, as they were assembled."""
        self.found: list[FoundModel] = []
        """The models of the last scan, those that share weights with these; an unchanged one is the same object as before."""

    def update(self, models: list[FoundModel], readings: Mapping[int, ModuleReading]) -> Iterator[None]:
        """Take the models of a scan, and update `found`. Yields wherever it may be interrupted.

        Args:
            models: as they were assembled.
            readings: of all modules.
        """
        if models == self._last:
            return
        shared: set[_StorageKey] = set().union(*[one.counted_elsewhere for one in models])
        if not shared and not self._known:
            self._last, self.found = models, models
            return
        known: dict[int, _DescribedModel] = {}
        found: list[FoundModel] = []
        for one in models:
            now = shared & one.storages.keys() if one.adapter is None else frozenset()
            reading = readings.get(one.core)
            before = self._known.get(one.core) if one.adapter is None else None
            if before is not None and (reading is None or before.core is not reading.ref):
                before = None  # it died, and another one has its id
            if before is None or before.plain is not one or before.shared != now:
                if not now and before is None:
                    found.append(one)
                    continue
                slots: dict[_Slot, tuple[_StorageKey, str | None]] = {}
                marked = yield from _marked(one, now, before, readings, slots)
                before = _DescribedModel(reading.ref if reading is not None else None, one, now, slots, marked)
            if before.slots:
                known[one.core] = before
            found.append(before.found)
        self._known, self._last, self.found = known, models, found


def _marked(
    model: FoundModel,
    shared: Set[_StorageKey],
    before: _DescribedModel | None,
    readings: Mapping[int, ModuleReading],
    slots: dict[_Slot, tuple[_StorageKey, str | None]],
) -> Generator[None, None, FoundModel]:
    """The model with what it shares, or shared; `slots` receives where that is."""
    sizes: dict[_StorageKey, int] = {}
    by_origin: dict[tuple[str, str], int] = {}
    for count, member in enumerate(model.members):
        reading = readings.get(member)
        for storage in reading.storages if reading is not None else ():
            slot = member, storage.tensor
            origin = storage.origin
            path = origin.path if origin is not None else None
            former = before.slots.get(slot) if before is not None else None
            is_former = former is not None and former[1] == path and (path is not None or former[0] == storage.key)
            if not is_former and storage.key not in shared:
                continue
            slots[slot] = storage.key, path
            if storage.key not in sizes:
                sizes[storage.key] = storage.size_bytes
                if origin is not None:
                    source = origin.path, origin.source
                    by_origin[source] = by_origin.get(source, 0) + storage.size_bytes
        if count % STEP == 0:
            yield
    if not slots:
        return model
    return replace(model, shared_weights=SharedWeights(frozenset(slots), by_origin, sum(sizes.values())))


@never_pickled
class OwnWeights(NamedTuple):
    """The weights of a model by which it may be named."""

    bytes_by_origin: Mapping[tuple[str, str], int]
    """Bytes by (path, source)."""
    total_bytes: int
    left_out: Set[tuple[int, str]]
    """The others: by the registry's key of the module, and the name under which it holds the tensor."""


def own_weights(model: FoundModel) -> OwnWeights:
    """The weights that no other model holds or held; all of them where it has no others worth mentioning."""
    shared = model.shared_weights
    if shared is not None:
        total = model.held_bytes - shared.size_bytes
        own = {origin: size - shared.bytes_by_origin.get(origin, 0) for origin, size in model.bytes_by_origin.items()}
        own = {origin: size for origin, size in own.items() if size > 0}
        if any(path for path, _ in own) or total * NEGLIGIBLE > model.held_bytes:
            return OwnWeights(own, total, shared.slots)
    return OwnWeights(model.bytes_by_origin, model.held_bytes, frozenset())
