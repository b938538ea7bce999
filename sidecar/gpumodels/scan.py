"""The scan: all live modules looked at in short slices, and only the models put together anew whose modules changed.

Between slices nothing here holds a module or tensor: readings are plain data, so what the host deletes is freed at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Final

from gpumodels.adoption import Forest
from gpumodels.assembling import FoundModel, Part, assemble
from gpumodels.equal_roots import EqualRoots
from gpumodels.failures import Failures
from gpumodels.grouping import find_roots, parts_of
from gpumodels.holdings import Holdings, Parts
from gpumodels.reading import ModuleReader, ModuleReading
from gpumodels.registry import Registry
from gpumodels.resident import resident
from gpumodels.weak_table import KeyedRef

SLICE_SECONDS: Final = 0.001
"""How long a slice works before it lets the host's threads have the interpreter."""

READINGS_PER_STEP: Final = 8
STORAGES_PER_STEP: Final = 1000
MODULES_PER_STEP: Final = 32
"""Modules that are compared in one step, about a microsecond each."""


@resident
class _Look:
    """One look at all modules: what is found, and how it differs from the look before."""

    def __init__(self, known: Mapping[int, ModuleReading], before: Mapping[int, ModuleReading]) -> None:
        self.known = known
        """What is to be compared with."""
        self.before = before
        self.readings: dict[int, ModuleReading] = {}
        self.changed: set[int] = set()
        """Keys of modules that hold something new, or are gone."""
        self.new = 0
        """Modules that weren't there before."""
        self.is_rearranged = False
        """Modules came, went, or hold other modules than before: the roots may be others."""

    def note(self, key: int, reading: ModuleReading) -> None:
        """This module was read."""
        former = self.before.get(key)
        if key not in self.readings and former is None:
            self.new += 1
        if former is None or former.children != reading.children or former.aside != reading.aside:
            self.is_rearranged = True
        self.readings[key] = reading
        self.changed.add(key)

    def find_gone(self) -> Iterator[None]:
        """Note the modules that were there before and aren't any more."""
        for count, key in enumerate(self.before):
            if key not in self.readings:
                self.changed.add(key)
                self.is_rearranged = True
            if count % MODULES_PER_STEP == 0:
                yield


@resident
class Scanner:
    """Remembers what it read, so that a look at unchanged modules costs a comparison each."""

    def __init__(self, registry: Registry, reader: ModuleReader, failures: Failures) -> None:
        self._registry = registry
        self._reader = reader
        self._failures = failures
        self._readings: dict[int, ModuleReading] = {}
        self._forest = Forest({})
        self._roots: list[tuple[int, int]] = []
        self._equal = EqualRoots(registry, failures, reader.module_type)
        self._together: dict[int, tuple[int, ...]] = {}
        """For the first of some equal roots that lie together, all of them."""
        self._groups: dict[int, _Group] = {}
        self._guard = failures.guard("reading a module")

    def scan(self, pause: Callable[[], None], afresh: bool = False, again: bool = False) -> list[FoundModel]:
        """All models that live now, in the order of their coming; those that didn't change are the same objects as before.

        Args:
            pause: called between slices, while nothing is held: sleeps.
            afresh: don't compare with what was read before.
            again: it was found out just now who holds some of the modules.
        """
        before, roots_before = self._readings, self._roots
        self._reader.look_again()
        look = _Look(known={} if afresh else before, before=before)
        in_slices(self._look_at_all(look), pause)
        self._readings = look.readings
        if len(before) + look.new > len(look.readings):
            in_slices(look.find_gone(), pause)
        if look.is_rearranged or self._equal.is_due:
            known = len(self._registry)
            in_slices(self._find_roots(look.changed), pause)
            if len(self._registry) > known and not again:
                return self.scan(pause, again=True)
        else:
            self._forest = Forest(self._readings, self._forest.adopted)
        if look.changed or look.is_rearranged or self._roots is not roots_before:
            in_slices(self._assemble_changed(look.changed), pause)
        return self._found()

    def _found(self) -> list[FoundModel]:
        return [model for group in self._groups.values() for model in group.models if not model.is_counted_elsewhere]

    def measure(self, holdings: Holdings, pause: Callable[[], None]) -> Parts:
        """What is kept beside the models of the last scan."""
        parts = Parts()
        in_slices(holdings.measure(self._readings, self._found(), parts), pause)
        return parts

    def _look_at_all(self, look: _Look) -> Iterator[None]:
        """Compare every module with what is known of it, and read what differs."""
        refs = self._registry.refs()
        guard = self._failures.guard("looking at modules")
        for start in range(0, len(refs), MODULES_PER_STEP):
            together = [ref for ref in refs[start : start + MODULES_PER_STEP] if ref.key not in look.readings]
            different = together
            with guard:
                different = self._reader.changed(together, look.known, look.readings)
            yield from self._read(different, look)
            yield

    def _read(self, refs: Sequence[KeyedRef], look: _Look) -> Iterator[None]:
        """Read these modules, and those below them that nobody has told of."""
        waiting = list(reversed(refs))
        while waiting:
            ref = waiting.pop()
            if ref.key in look.readings:
                continue
            if len(look.readings) % READINGS_PER_STEP == 0:
                yield
            reading = None
            with self._guard:
                reading = self._reader.read(ref, self._registry.add)
            if reading is None:
                continue
            look.note(ref.key, reading)
            below = (*(key for _, key in reading.children), *(one.key for one in reading.aside))
            unknown = [child for child in below if child not in look.readings and child not in look.before]
            waiting += [found for child in unknown if (found := self._registry.ref(child)) is not None]

    def _find_roots(self, changed: set[int]) -> Iterator[None]:
        """Which modules are models, and whose those are that no module registered; who has others of these now has changed."""
        before, forest = self._forest.adopted, Forest(self._readings)
        roots: list[tuple[int, int]] = []
        yield from find_roots(forest, roots)
        changed.update(key for key in before.keys() | forest.adopted.keys() if before.get(key) != forest.adopted.get(key))
        self._together = {}
        yield from self._equal.find(forest, roots, self._together)
        others = {key for first, keys in self._together.items() for key in keys if key != first}
        self._forest, self._roots = forest, [pair for pair in roots if pair[0] not in others]

    def _assemble_changed(self, changed: Set[int]) -> Iterator[None]:
        """Put together what changed. A storage that two models hold counts with the one that came first; a model that two
        containers hold stands under the first of them."""
        groups: dict[int, _Group] = {}
        taken = _Taken()
        for root, core in self._roots:
            group = self._groups.get(root)
            together = self._together.get(root, ())
            if group is None or group.together != together or group.is_outdated(core, changed, taken):
                group = _Group(core, together)
                yield from self._assemble(root, group, taken)
            else:
                for model in group.models:
                    yield from taken.add(model)
            groups[root] = group
            yield
        self._groups = groups

    def _assemble(self, root: int, group: _Group, taken: _Taken) -> Iterator[None]:
        """Fill the group with the root's models, and `taken` with what they hold."""
        parts: list[Part] = []
        if group.together:
            parts.append(Part(root, root, together=group.together))
        else:
            yield from parts_of(root, group.core, self._forest, parts)
        for part in parts:
            if part.core in taken.cores:
                group.stand_elsewhere.add(part.core)
                continue
            made: list[FoundModel] = []
            members: set[int] = set()
            yield from assemble(part, self._forest, frozenset(), made, members)
            if any(not taken.storages.isdisjoint(model.storages) for model in made):
                elsewhere = frozenset(key for model in made for key in taken.storages & model.storages.keys())
                made, members = [], set()
                yield from assemble(part, self._forest, elsewhere, made, members)
            for model in made:
                yield from taken.add(model)
            group.models += made
            group.members.append(members)


@resident
class _Taken:
    """What the models before have: their storages, and the modules that they are about."""

    def __init__(self) -> None:
        self.storages: set[tuple[str, int]] = set()
        self.cores: set[int] = set()

    def add(self, model: FoundModel) -> Iterator[None]:
        """This model has it."""
        self.cores.add(model.core)
        waiting = iter(model.storages)
        while some := list(islice(waiting, STORAGES_PER_STEP)):
            self.storages.update(some)
            yield


@resident
class _Group:
    """The models of one root."""

    def __init__(self, core: int, together: tuple[int, ...]) -> None:
        self.core = core
        self.together = together
        self.models: list[FoundModel] = []
        self.members: list[set[int]] = []
        """Of each part, the keys of its modules, also where they hold nothing."""
        self.stand_elsewhere: set[int] = set()
        """Cores of parts that stand under another root."""

    def is_outdated(self, core: int, changed: Set[int], taken: _Taken) -> bool:
        """Whether what was put together before is no longer true."""
        if not self.models or self.core != core or not self.stand_elsewhere <= taken.cores:
            return True
        if any(not members.isdisjoint(changed) for members in self.members):
            return True
        if any(model.core in taken.cores for model in self.models):
            return True
        within: set[tuple[str, int]] = set()
        for model in self.models:
            overlaps = not taken.storages.isdisjoint(model.storages) or not within.isdisjoint(model.storages)
            if (overlaps or model.elsewhere) and (taken.storages | within) & model.storages.keys() != model.elsewhere:
                return True
            if len(self.models) > 1:
                within.update(model.storages)
        return False


def in_slices(steps: Iterator[None], pause: Callable[[], None]) -> None:
    """Run the steps, with a pause whenever a slice's time is over."""
    until = time.perf_counter() + SLICE_SECONDS
    for _ in steps:
        if time.perf_counter() >= until:
            pause()
            until = time.perf_counter() + SLICE_SECONDS
