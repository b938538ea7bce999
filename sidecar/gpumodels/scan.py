"""The scan: all live modules looked at in short slices, and only the models put together anew whose modules changed.

Between slices nothing here holds a module or tensor: readings are plain data, so what the host deletes is freed at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import islice
from typing import Final

from gpumodels.adoption import Forest
from gpumodels.assembling import FoundModel, Part, assemble
from gpumodels.equal_roots import EqualRoots
from gpumodels.failures import Failures
from gpumodels.grouping import find_roots, parts_of
from gpumodels.holdings import Holdings, Parts
from gpumodels.reading import ModuleReader, ModuleReading
from gpumodels.registry import Changes, Registry
from gpumodels.resident import resident
from gpumodels.weak_table import KeyedRef

SLICE_SECONDS: Final = 0.0016
"""How long a slice works before it lets the host's threads have the interpreter."""

READINGS_PER_STEP: Final = 8
STORAGES_PER_STEP: Final = 1000
PROBES: Final = 6
"""Modules of each part of a model that are looked at first, in no particular order: what is done to a model shows there soon."""
MODULES_PER_STEP: Final = 32
"""Modules that are compared in one step, about a microsecond each."""


@resident
class _Look:
    """One look at modules: how what is found differs from what was there before."""

    def __init__(self, readings: dict[int, ModuleReading], is_rearranged: bool) -> None:
        self.readings = readings
        """Of all modules, oldest first; brought up to date by the look."""
        self.read: set[int] = set()
        self.changed: set[int] = set()
        """Keys of modules that hold something new, or are gone."""
        self.is_rearranged = is_rearranged
        """Modules came, went, or hold other modules than before: the roots may be others."""

    def note(self, key: int, reading: ModuleReading) -> None:
        """This module was read."""
        former = self.readings.get(key)
        if former is not None and former.ref is not reading.ref:  # it died, and another one has its id
            del self.readings[key]
            former = None
        self.read.add(key)
        if former is None or former.children != reading.children or former.aside != reading.aside:
            self.is_rearranged = True
        elif former.says_the_same(reading):
            return
        self.readings[key] = reading
        self.changed.add(key)

    def forget(self, gone: Sequence[KeyedRef]) -> Iterator[None]:
        """These died."""
        for count, ref in enumerate(gone):
            reading = self.readings.get(ref.key)
            if reading is not None and reading.ref is ref:
                del self.readings[ref.key]
                self.changed.add(ref.key)
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
        self._unread: list[KeyedRef] = []
        """Modules that weren't initialised yet."""
        self._to_walk: list[KeyedRef] = []
        """What this round of the walk has not come to yet; the next is the last."""
        self._forest = Forest(self._readings)
        self._roots: list[tuple[int, int]] = []
        self._equal = EqualRoots(registry, failures, reader.module_type)
        self._together: dict[int, tuple[int, ...]] = {}
        """For the first of some equal roots that lie together, all of them."""
        self._groups: dict[int, _Group] = {}
        self._claims = _Claims()
        self._is_unfinished = False
        """A look began and never ended: nothing is known for sure."""
        self._guard = failures.guard("reading a module")

    def scan(
        self, pause: Callable[[], None], afresh: bool = False, everything: bool = True, walk_seconds: float = 0.0
    ) -> list[FoundModel]:
        """All models that live now, in the order of their coming; those that didn't change are the same objects as before.

        Args:
            pause: called between slices, while nothing is held: sleeps.
            afresh: read all anew, whether it differs from before or not.
            everything: compare all modules; else only those of which the registry was told something.
            walk_seconds: beside those, a few modules of each model and some of all in turn, for so long (processor time).
        """
        changes = self._registry.take_changes()
        everything = everything or changes.is_everything or self._is_unfinished
        look = _Look(self._readings, is_rearranged=self._is_unfinished)
        if self._is_unfinished:
            self._groups = {}
        self._is_unfinished = True
        found = self._scan(pause, look, changes, afresh, everything, walk_seconds)
        self._is_unfinished = False
        return found

    def _scan(
        self, pause: Callable[[], None], look: _Look, changes: Changes, afresh: bool, everything: bool, walk_seconds: float
    ) -> list[FoundModel]:
        roots_before = self._roots
        self._reader.look_again()
        in_slices(self._look_at(look, changes, afresh, everything), pause)
        if walk_seconds and not everything:
            in_slices(self._walk(look, walk_seconds), pause)
        if look.is_rearranged or self._equal.is_due:
            known = len(self._registry)
            in_slices(self._find_roots(look.changed), pause)
            if len(self._registry) > known:  # it was found out just now who holds some of the modules
                in_slices(self._look_at(look, self._registry.take_changes(), afresh=False, everything=False), pause)
                in_slices(self._find_roots(look.changed), pause)
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

    def _look_at(self, look: _Look, changes: Changes, afresh: bool, everything: bool) -> Iterator[None]:
        """Compare the modules that were told of with what is known of them, and read what differs."""
        yield from look.forget(changes.gone)
        unread, self._unread = self._unread, []
        yield from self._compare(self._registry.refs() if everything else [*unread, *changes.come], look, afresh)
        for key in changes.touched:
            yield from self._read_below(key, look)

    def _compare(self, refs: Sequence[KeyedRef], look: _Look, afresh: bool = False) -> Iterator[None]:
        """Compare these with what is known of them, and read what differs."""
        guard = self._failures.guard("looking at modules")
        for start in range(0, len(refs), MODULES_PER_STEP):
            together = [ref for ref in refs[start : start + MODULES_PER_STEP] if ref.key not in look.read]
            different = together
            with guard:
                if not afresh:
                    different = self._reader.changed(together, look.readings)
            yield from self._read(different, look)
            yield

    def _walk(self, look: _Look, seconds: float) -> Iterator[None]:
        """Look at what nobody told of: a few modules of each model, then all in turn; of models that changed, at all of it."""
        until = time.thread_time() + seconds
        before = set(look.changed)
        for group in self._groups.values():
            yield from self._compare(self._refs_of(group.probes), look)
            if time.thread_time() >= until:
                break
        if not self._to_walk:
            self._to_walk = self._registry.refs()
            self._to_walk.reverse()
        while self._to_walk and time.thread_time() < until:
            yield from self._compare(self._to_walk[: -MODULES_PER_STEP - 1 : -1], look)
            del self._to_walk[-MODULES_PER_STEP:]
        for root in self._claims.roots_with(look.changed - before):
            for members in self._groups[root].members:
                yield from self._compare(self._refs_of(members), look)

    def _refs_of(self, keys: Iterable[int]) -> list[KeyedRef]:
        return [reading.ref for key in keys if (reading := self._readings.get(key)) is not None]

    def _read_below(self, root: int, look: _Look) -> Iterator[None]:
        """Read this module and all below it anew: where their values came from may be all that changed."""
        level, met = [root], {root}
        while level:
            yield from self._read([ref for key in level if (ref := self._registry.ref(key)) is not None], look)
            below: dict[int, None] = {}
            for key in level:
                reading = look.readings.get(key)
                if reading is not None:
                    below.update((key, None) for _, key in reading.children)
                    below.update((one.key, None) for one in reading.aside)
            yield
            level = [key for key in below if key not in met]
            met.update(level)

    def _read(self, refs: Sequence[KeyedRef], look: _Look) -> Iterator[None]:
        """Read these modules, and those below them that nobody has told of."""
        waiting = list(reversed(refs))
        read, readings, registry = look.read, look.readings, self._registry
        while waiting:
            ref = waiting.pop()
            if ref.key in read:
                continue
            if len(read) % READINGS_PER_STEP == 0:
                yield
            reading = None
            with self._guard:
                reading = self._reader.read(ref, registry.add)
            if reading is None:
                if ref() is not None:
                    self._unread.append(ref)
                continue
            look.note(ref.key, reading)
            below = [key for _, key in reading.children]
            if reading.aside:
                below += [one.key for one in reading.aside]
            waiting += [found for key in below if key not in readings and (found := registry.ref(key)) is not None]

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
        """Put together what changed; all else only where it shares something with that."""
        touched = self._claims.roots_with(changed)
        new: dict[int, _Group] = {}
        for root, core in self._roots:
            group, together = self._groups.get(root), self._together.get(root, ())
            if group is None or root in touched or group.core != core or group.together != together:
                new[root] = _Group(core, together)
        gone = self._groups.keys() - {root for root, _ in self._roots}
        before = [self._groups[root] for root in (*new, *gone) if root in self._groups]
        if all(map(self._claims.are_nobody_elses, before)):
            for group in before:
                self._claims.drop(group)
            for root, group in new.items():
                yield from self._assemble(root, group, _Taken())
            are_apart = [self._claims.take(root, group) for root, group in new.items()]
            if all(are_apart):
                self._groups = {root: new.get(root) or self._groups[root] for root, _ in self._roots}
                return
        yield from self._assemble_in_turn(changed)

    def _assemble_in_turn(self, changed: Set[int]) -> Iterator[None]:
        """Go through all models. A storage that two of them hold counts with the one that came first; a model that two
        containers hold stands under the first of them."""
        groups: dict[int, _Group] = {}
        taken, claims = _Taken(), _Claims()
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
            claims.take(root, group)
            yield
        self._groups, self._claims = groups, claims

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
            with_memory = (key for key in members if self._readings[key].storages)
            group.probes += islice(with_memory, PROBES)


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
class _Claims:
    """Which root's models hold what, so that a model that shares nothing can be put together without a look at the others."""

    def __init__(self) -> None:
        self._roots: dict[int, int] = {}
        """By module."""
        self._among: dict[int, set[int]] = {}
        """Of modules below several roots, all of these."""
        self._holders: dict[tuple[str, int], int] = {}
        """By storage, how many groups hold it."""
        self._cores: dict[int, int] = {}

    def roots_with(self, modules: Set[int]) -> set[int]:
        """Roots that have one of these modules below them."""
        found = {root for key in modules if (root := self._roots.get(key)) is not None}
        if self._among:
            found.update(root for key in modules for root in self._among.get(key, ()))
        return found

    def take(self, root: int, group: _Group) -> bool:
        """The group holds what it holds; whether nobody else holds any of it."""
        is_apart = not group.stand_elsewhere
        for members in group.members:
            for key in members:
                other = self._roots.setdefault(key, root)
                if other != root:
                    self._among.setdefault(key, {other}).add(root)
        for storage in group.storages():
            count = self._holders[storage] = self._holders.get(storage, 0) + 1
            is_apart &= count == 1
        for core in group.cores():
            count = self._cores[core] = self._cores.get(core, 0) + 1
            is_apart &= count == 1
        return is_apart

    def are_nobody_elses(self, group: _Group) -> bool:
        """Whether no other group holds any of it."""
        if group.stand_elsewhere or any(self._cores[core] > 1 for core in group.cores()):
            return False
        return all(self._holders[key] == 1 for key in group.storages())

    def drop(self, group: _Group) -> None:
        """A group that holds nothing of others is no more."""
        for members in group.members:
            for key in members:
                self._roots.pop(key, None)
        for storage in group.storages():
            del self._holders[storage]
        for core in group.cores():
            del self._cores[core]


@resident
class _Group:
    """The models of one root."""

    def __init__(self, core: int, together: tuple[int, ...]) -> None:
        self.core = core
        self.together = together
        self.models: list[FoundModel] = []
        self.members: list[set[int]] = []
        """Of each part, the keys of its modules, also where they hold nothing."""
        self.probes: list[int] = []
        """Keys of a few modules of each part, by which it is seen at once that something was done to all of it."""
        self.stand_elsewhere: set[int] = set()
        """Cores of parts that stand under another root."""

    def cores(self) -> Set[int]:
        """Of all its parts, wherever they stand."""
        return self.stand_elsewhere.union(model.core for model in self.models)

    def storages(self) -> Set[tuple[str, int]]:
        """All that its models hold."""
        if len(self.models) == 1:
            return self.models[0].storages.keys()
        return {key for model in self.models for key in model.storages}

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
