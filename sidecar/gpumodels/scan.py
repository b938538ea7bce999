"""The scan: all live modules looked at in short slices, and only the models put together anew whose modules changed.

Between slices nothing here holds a module or tensor: readings are plain data, so what the host deletes is freed at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Set
from typing import Final

from gpumodels.assembling import FoundModel, Part, assemble
from gpumodels.failures import Failures
from gpumodels.grouping import find_roots, parts_of
from gpumodels.holdings import Holdings, Parts
from gpumodels.reading import ModuleReader, ModuleReading
from gpumodels.registry import Registry
from gpumodels.weak_table import KeyedRef

SLICE_SECONDS: Final = 0.001
"""How long a slice works before it lets the host's threads have the interpreter."""

READINGS_PER_STEP: Final = 8
MODULES_PER_STEP: Final = 32
"""Modules that are compared in one step, about a microsecond each."""


class Scanner:
    """Remembers what it read, so that a look at unchanged modules costs a comparison each."""

    def __init__(self, registry: Registry, reader: ModuleReader, failures: Failures) -> None:
        self._registry = registry
        self._reader = reader
        self._failures = failures
        self._readings: dict[int, ModuleReading] = {}
        self._roots: list[tuple[int, int]] = []
        self._groups: dict[int, list[FoundModel]] = {}
        self._guard = failures.guard("reading a module")

    def scan(self, pause: Callable[[], None], afresh: bool = False) -> list[FoundModel]:
        """All models that live now, in the order of their coming; those that didn't change are the same objects as before.

        Args:
            pause: called between slices, while nothing is held: sleeps.
            afresh: don't compare with what was read before.
        """
        readings: dict[int, ModuleReading] = {}
        changed: set[int] = set()
        in_slices(self._look_at_all(readings, changed, afresh), pause)
        gone = self._readings.keys() - readings.keys()
        regrouped = bool(gone) or any(
            key not in self._readings or self._readings[key].children != readings[key].children for key in changed
        )
        self._readings = readings
        if regrouped:
            roots: list[tuple[int, int]] = []
            in_slices(find_roots(readings, roots), pause)
            self._roots = roots
        if regrouped or changed:
            in_slices(self._assemble_changed(changed | gone), pause)
        return self._found()

    def _found(self) -> list[FoundModel]:
        return [model for group in self._groups.values() for model in group]

    def measure(self, holdings: Holdings, pause: Callable[[], None]) -> Parts:
        """What is kept beside the models of the last scan."""
        parts = Parts()
        in_slices(holdings.measure(self._readings, self._found(), parts), pause)
        return parts

    def _look_at_all(self, readings: dict[int, ModuleReading], changed: set[int], afresh: bool) -> Iterator[None]:
        """Fill `readings` with what every module holds, and `changed` with the keys of those that hold something new."""
        refs = self._registry.refs()
        met = {ref.key for ref in refs}
        known = {} if afresh else self._readings
        guard = self._failures.guard("looking at modules")
        for start in range(0, len(refs), MODULES_PER_STEP):
            together = refs[start : start + MODULES_PER_STEP]
            different = together
            with guard:
                different = self._reader.changed(together, known, readings)
            for count, ref in enumerate(different, 1):
                self._read(ref, readings, changed, met)
                if count % READINGS_PER_STEP == 0:
                    yield
            yield

    def _read(self, ref: KeyedRef, readings: dict[int, ModuleReading], changed: set[int], met: set[int]) -> None:
        """Read one module, and those below it that nobody has told of."""
        guard = self._guard
        waiting = [ref]
        while waiting:
            ref = waiting.pop()
            reading = None
            with guard:
                reading = self._reader.read(ref, self._registry.add)
            if reading is None:
                continue
            readings[ref.key] = reading
            changed.add(ref.key)
            for _, child in reading.children:
                if child not in met and (child_ref := self._registry.ref(child)) is not None:
                    met.add(child)
                    waiting.append(child_ref)

    def _assemble_changed(self, changed: Set[int]) -> Iterator[None]:
        """Put together what changed; a storage that two models hold counts with the one that came first."""
        groups: dict[int, list[FoundModel]] = {}
        taken: set[tuple[str, int]] = set()
        for root, core in self._roots:
            group = self._groups.get(root)
            if group is None or self._is_outdated(group, core, changed, taken):
                group = []
                parts: list[Part] = []
                yield from parts_of(root, core, self._readings, parts)
                for part in parts:
                    yield from self._assemble(part, taken, group)
            else:
                for model in group:
                    taken.update(model.storages)
            groups[root] = group
            yield
        self._groups = groups

    def _is_outdated(self, group: list[FoundModel], core: int, changed: Set[int], taken: Set[tuple[str, int]]) -> bool:
        """Whether what was put together before is no longer true."""
        if not group:
            return True
        if group[-1].core != core or any(not model.members.isdisjoint(changed) for model in group):
            return True
        within: set[tuple[str, int]] = set()
        for model in group:
            overlaps = not taken.isdisjoint(model.storages) or not within.isdisjoint(model.storages)
            if (overlaps or model.elsewhere) and (taken | within) & model.storages.keys() != model.elsewhere:
                return True
            if len(group) > 1:
                within.update(model.storages)
        return False

    def _assemble(self, part: Part, taken: set[tuple[str, int]], group: list[FoundModel]) -> Iterator[None]:
        """Append the part's models to the group, and what they hold to `taken`."""
        made: list[FoundModel] = []
        yield from assemble(part, self._readings, frozenset(), made)
        if any(not taken.isdisjoint(model.storages) for model in made):
            elsewhere = frozenset(key for model in made for key in taken & model.storages.keys())
            made = []
            yield from assemble(part, self._readings, elsewhere, made)
        for model in made:
            taken.update(model.storages)
        group += made


def in_slices(steps: Iterator[None], pause: Callable[[], None]) -> None:
    """Run the steps, with a pause whenever a slice's time is over."""
    until = time.perf_counter() + SLICE_SECONDS
    for _ in steps:
        if time.perf_counter() >= until:
            pause()
            until = time.perf_counter() + SLICE_SECONDS
