"""The scan: all live modules looked at in short slices, and only the models put together anew whose modules changed.

Between slices nothing here holds a module or tensor: readings are plain data, so what the host deletes is freed at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import islice
from typing import Final

from gpumodels.models.adoption import Forest
from gpumodels.models.assembling import FoundModel, Part, assemble
from gpumodels.models.equal_roots import EqualRoots
from gpumodels.models.grouping import find_roots, parts_of
from gpumodels.models.groups import Claims, Group, Taken
from gpumodels.models.training_state import Parts, TrainingState
from gpumodels.models.updating import MOST_EXCHANGED
from gpumodels.observing.module_registry import Changes, ModuleRegistry
from gpumodels.support.failures import Failures
from gpumodels.support.resident import resident
from gpumodels.support.slices import in_slices
from gpumodels.support.weak_table import KeyedRef
from gpumodels.tensors.module_reader import ModuleReader, ModuleReading

READINGS_PER_STEP: Final = 8
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
        self.former: dict[int, ModuleReading] = {}
        """What was known of modules that hold other tensors now."""
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
        else:
            self.former.setdefault(key, former)
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

    def __init__(self, registry: ModuleRegistry, reader: ModuleReader, failures: Failures) -> None:
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
        self._groups: dict[int, Group] = {}
        self._claims = Claims()
        self._is_unfinished = False
        """A look began and never ended: nothing is known for sure."""

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
        everything = everything or self._is_unfinished
        look = _Look(self._readings, is_rearranged=self._is_unfinished)
        if self._is_unfinished:
            self._groups, self._claims = {}, Claims()
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
            if not look.is_rearranged and self._roots is roots_before:
                in_slices(self._update(look), pause)
            in_slices(self._assemble_changed(look.changed), pause)
        return self._found()

    def _found(self) -> list[FoundModel]:
        return [model for group in self._groups.values() for model in group.models if not model.is_counted_elsewhere]

    def measure(self, training_state: TrainingState, pause: Callable[[], None]) -> Parts:
        """What is kept beside the models of the last scan."""
        parts = Parts()
        in_slices(training_state.measure(self._readings, self._claims.storages, parts), pause)
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
        compared: set[int] = set()
        for group in self._groups.values():
            yield from self._compare(self._refs_of(group.probes), look)
            if time.thread_time() >= until:
                break
        if not self._to_walk:
            self._to_walk = self._registry.refs()
            self._to_walk.reverse()
        while self._to_walk and time.thread_time() < until:
            some = self._to_walk[: -MODULES_PER_STEP - 1 : -1]
            del self._to_walk[-MODULES_PER_STEP:]
            compared.update([ref.key for ref in some])
            yield from self._compare(some, look)
        for root in (yield from self._claims.roots_with(look.changed - before)):
            for members in self._groups[root].members:
                yield from self._compare(self._refs_of(members - compared), look)

    def _refs_of(self, keys: Iterable[int]) -> list[KeyedRef]:
        return [reading.ref for key in keys if (reading := self._readings.get(key)) is not None]

    def _read_below(self, root: int, look: _Look) -> Iterator[None]:
        """Read this module and all below it anew: where their values came from may be all that changed."""
        waiting, met = deque([root]), {root}
        while waiting:
            some = [waiting.popleft() for _ in range(min(len(waiting), READINGS_PER_STEP))]
            yield from self._read([ref for key in some if (ref := self._registry.ref(key)) is not None], look)
            for key in some:
                reading = look.readings.get(key)
                if reading is not None and (reading.children or reading.aside):
                    below = [key for _, key in reading.children] + [one.key for one in reading.aside]
                    waiting += [key for key in below if key not in met]
                    met.update(below)
            yield

    def _read(self, refs: Sequence[KeyedRef], look: _Look) -> Iterator[None]:
        """Read these modules, and those below them that nobody has told of."""
        waiting = list(reversed(refs))
        read, readings, registry, known = look.read, look.readings, self._registry, self._registry.known
        while waiting:
            ref = waiting.pop()
            if ref.key in read:
                continue
            if len(read) % READINGS_PER_STEP == 0:
                yield
            reading = None
            try:
                reading = self._reader.read(ref, known, registry.add)
            except Exception as error:  # noqa: BLE001  # as in a guard, of which one a module takes longer than it looks
                self._failures.note("reading a module", error)
            if reading is None:
                if ref() is not None:
                    self._unread.append(ref)
                continue
            look.note(ref.key, reading)
            if not (reading.children or reading.aside):
                continue
            below = [key for _, key in reading.children] + [one.key for one in reading.aside]
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

    def _update(self, look: _Look) -> Iterator[None]:
        """Of modules that hold other tensors, and nothing else is new: tell it of their models, and have them forgotten."""
        of_roots: dict[int, dict[int, tuple[ModuleReading, ModuleReading]]] = {}
        for key in look.changed & look.former.keys() if len(look.changed) <= MOST_EXCHANGED else ():
            root = self._claims.only_root_with(key)
            if root is not None:
                of_roots.setdefault(root, {})[key] = look.former[key], look.readings[key]
        for root, exchanged in of_roots.items():
            if (yield from self._groups[root].update(exchanged, self._claims)):
                look.changed.difference_update(exchanged)

    def _assemble_changed(self, changed: Set[int]) -> Iterator[None]:
        """Put together what changed; all else only where it shares something with that."""
        claims = self._claims
        touched = yield from claims.roots_with(changed)
        new: dict[int, Group] = {}
        for root, core in self._roots:
            group, together = self._groups.get(root), self._together.get(root, ())
            if group is None or root in touched or group.core != core or group.together != together:
                new[root] = Group(core, together)
        gone = self._groups.keys() - {root for root, _ in self._roots}
        before = {root: self._groups[root] for root in (*new, *gone) if root in self._groups}
        are_apart = True
        for group in before.values():
            are_apart = are_apart and (yield from claims.are_nobody_elses(group))
        if are_apart:
            for root, group in before.items():
                yield from claims.drop(root, group)
            for root, group in new.items():
                yield from self._assemble(root, group, Taken())
            for root, group in new.items():
                are_apart &= yield from claims.take(root, group)
            if are_apart:
                self._groups = {root: new.get(root) or self._groups[root] for root, _ in self._roots}
                return
        yield from self._assemble_in_turn(changed)

    def _assemble_in_turn(self, changed: Set[int]) -> Iterator[None]:
        """Go through all models. A storage that two of them hold counts with the one that came first; a model that two
        containers hold stands under the first of them."""
        groups: dict[int, Group] = {}
        taken, claims = Taken(), Claims()
        for root, core in self._roots:
            group = self._groups.get(root)
            together = self._together.get(root, ())
            if group is None or group.together != together or group.is_outdated(core, changed, taken):
                group = Group(core, together)
                yield from self._assemble(root, group, taken)
            else:
                for model in group.models:
                    yield from taken.add(model)
            groups[root] = group
            yield from claims.take(root, group)
        self._groups, self._claims = groups, claims

    def _assemble(self, root: int, group: Group, taken: Taken) -> Iterator[None]:
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
            if any(not model.storages.keys().isdisjoint(taken.storages) for model in made):
                elsewhere = frozenset(key for model in made for key in taken.storages & model.storages.keys())
                made, members = [], set()
                yield from assemble(part, self._forest, elsewhere, made, members)
            for model in made:
                yield from taken.add(model)
            group.models += made
            group.members.append(members)
            with_memory = (key for key in members if self._readings[key].storages)
            group.probes += islice(with_memory, PROBES)
