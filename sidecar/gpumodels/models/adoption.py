"""Finds the owners of modules that lie in plain attributes of other modules, where torch doesn't register them.

A registered module belongs to the module that registered it. Any other belongs to the module that keeps it in lists, dicts or
objects, unless it is the keeper's own parent (blocks that remember their model), or its library says that it is a model, or the
object leads back to the keeper (a trainer, a pipeline, a registry of models: these refer to models, they aren't parts of one).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gpumodels.support.never_pickled import never_pickled
from gpumodels.tensors.module_reader import ModuleReading, UnregisteredModule

STEP: Final = 64


@never_pickled
@dataclass(slots=True)
class Forest:
    """The readings of all modules, and which modules each of them holds."""

    readings: Mapping[int, ModuleReading]
    adopted: dict[int, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    """By holder, the paths and keys of those modules in its plain attributes that belong to it."""

    def children(self, key: int) -> tuple[tuple[str, int], ...]:
        """Names and keys of the modules that it holds, registered or adopted."""
        children = self.readings[key].children
        return children + self.adopted[key] if key in self.adopted else children


def adopt(forest: Forest, holders: dict[int, int]) -> Iterator[None]:
    """Fill `forest.adopted`, and add its modules to `holders`, which has the registered ones.

    Yields wherever it may be interrupted.
    """
    keepers: list[int] = []
    for count, (key, reading) in enumerate(forest.readings.items()):
        if reading.unregistered:
            keepers.append(key)
        if count % STEP == 0:
            yield
    if not keepers:
        return
    kept: Counter[int] = Counter()
    tops: dict[int, int] = {}
    for key in keepers:
        tops[key] = _top(key, holders)
        kept[tops[key]] += len(forest.readings[key].unregistered)
    adopted: dict[int, list[tuple[str, int]]] = {}
    # The keepers of most modules first: a model adopts its blocks before one of these could adopt the model.
    for key in sorted(keepers, key=lambda keeper: -kept[tops[keeper]]):
        yield
        for unregistered in _own_parts(key, forest, holders):
            kept_module = forest.readings.get(unregistered.key)
            if kept_module is None or kept_module.has_identity:
                continue
            if unregistered.key not in holders and _top(key, holders) != unregistered.key:
                holders[unregistered.key] = key
                adopted.setdefault(key, []).append((unregistered.path, unregistered.key))
    forest.adopted.update((key, tuple(children)) for key, children in adopted.items())


def _own_parts(keeper: int, forest: Forest, holders: Mapping[int, int]) -> list[UnregisteredModule]:
    """The modules in its plain attributes, except those in objects that lead back to it or to a module above it."""
    asides = forest.readings[keeper].unregistered
    if not any(unregistered.through_object for unregistered in asides):
        return list(asides)
    above = set(_above(keeper, holders))
    circular = {_attribute(unregistered) for unregistered in asides if unregistered.through_object and unregistered.key in above}
    return [
        unregistered for unregistered in asides if not unregistered.through_object or _attribute(unregistered) not in circular
    ]


def _attribute(unregistered: UnregisteredModule) -> str:
    return unregistered.path.partition(".")[0]


def _above(key: int, holders: Mapping[int, int]) -> list[int]:
    """The module itself and all modules above it."""
    found = [key]
    met = {key}
    while (key := holders.get(key, key)) not in met:
        met.add(key)
        found.append(key)
    return found


def _top(key: int, holders: Mapping[int, int]) -> int:
    return _above(key, holders)[-1]
