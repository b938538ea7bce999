"""The scan: compares all live modules in short slices, and assembles anew only the models whose modules changed.

Between slices nothing here holds a module or tensor: readings are plain data, so what the host deletes is freed at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from itertools import islice
from typing import Final

from gpumodels.models.adoption import Forest
from gpumodels.models.assembling import FormerModel, FoundModel, Part, assemble
from gpumodels.models.equal_roots import EqualRoots
from gpumodels.models.grouping import find_roots, parts_of
from gpumodels.models.groups import CountedAlready, Group, Ownership
from gpumodels.models.leftovers import Leftovers
from gpumodels.models.shared_weights import SharedWeightsFinder
from gpumodels.models.training_state import NonModelBytes, TrainingState
from gpumodels.models.updating import MOST_EXCHANGED
from gpumodels.observing.module_registry import Changes, ModuleRegistry
from gpumodels.support.failures import Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.slices import batched, in_slices
from gpumodels.support.weak_table import KeyedRef
from gpumodels.tensors.module_reader import CHANGED_MEANWHILE, ModuleReader, ModuleReading

READINGS_PER_STEP: Final = 8
PROBES: Final = 6
"""Modules of each part of a model that are read first, in no particular order: a change to the model soon shows in these."""
MODULES_PER_STEP: Final = 32
"""Modules compared in one step, at about a microsecond each."""


@never_pickled
class _Comparison:
    """The differences between modules as they are now and as they were read before."""

    def __init__(self, readings: dict[int, ModuleReading], is_rearranged: bool) -> None:
        self.readings = readings
        """By module, oldest first; brought up to date by the comparison."""
        self.read: set[int] = set()
        self.former: dict[int, ModuleReading] = {}
        """By module that holds other tensors now, its reading before."""
        self.changed: set[int] = set()
        """Keys of modules that hold something new, or were deleted."""
        self.is_rearranged = is_rearranged
        """Modules were made or deleted, or hold other modules than before: the roots may have changed."""

    def note(self, key: int, reading: ModuleReading) -> None:
        """Compare a new reading with the one before, and keep it."""
        former = self.readings.get(key)
        if former is not None and former.ref is not reading.ref:  # it died, and another one has its id
            del self.readings[key]
            former = None
        self.read.add(key)
        if former is None or former.children != reading.children or former.unregistered != reading.unregistered:
            self.is_rearranged = True
        elif former.is_unchanged_from(reading):
            return
        else:
            self.former.setdefault(key, former)
        self.readings[key] = reading
        self.changed.add(key)

    def forget(self, died: Sequence[KeyedRef]) -> Iterator[None]:
        """Remove the readings of deleted modules."""
        for count, ref in enumerate(died):
            reading = self.readings.get(ref.key)
            if reading is not None and reading.ref is ref:
                del self.readings[ref.key]
                self.changed.add(ref.key)
                self.is_rearranged = True
            if count % MODULES_PER_STEP == 0:
                yield


@never_pickled
class Scanner:
    """Remembers what it read, so that an unchanged module costs no more than a comparison."""

    def __init__(self, registry: ModuleRegistry, reader: ModuleReader, failures: Failures) -> None:
        self._registry = registry
        self._reader = reader
        self._failures = failures
        self._readings: dict[int, ModuleReading] = {}
        self._unread: list[KeyedRef] = []
        """Modules whose `__init__` had not run yet when they were to be read, or that changed while they were."""
        self._to_walk: list[KeyedRef] = []
        """Modules that this round of the walk has not reached yet, in reverse order."""
        self._forest = Forest(self._readings)
        self._roots: list[tuple[int, int]] = []
        self._equal = EqualRoots(registry, failures, reader.module_type)
        self._equal_roots: dict[int, tuple[int, ...]] = {}
        """For the first of some equal roots that one object holds, or that are left of one model, all of them."""
        self._leftovers = Leftovers(failures, reader.tensor_type)
        self._left_of: dict[int, FormerModel] = {}
        """For the first root that is left of a model, that model."""
        self._groups: dict[int, Group] = {}
        self._claims = Ownership()
        self._shared = SharedWeightsFinder()
        self._is_unfinished = False
        """A scan began and never ended: what is remembered may be wrong."""

    def scan(
        self, pause: Callable[[], None], afresh: bool = False, everything: bool = True, walk_seconds: float = 0.0
    ) -> list[FoundModel]:
        """All live models, oldest first; those that didn't change are the same objects as before.

        Args:
            pause: called between slices, while no module or tensor is held; sleeps.
            afresh: read all modules anew, whether they differ from before or not.
            everything: compare all modules; else only those of which the registry was notified.
            walk_seconds: processor time in which to compare, beyond those, a few modules of each model and then all in turn.
        """
        changes = self._registry.take_changes()
        everything = everything or self._is_unfinished
        comparison = _Comparison(self._readings, is_rearranged=self._is_unfinished)
        if self._is_unfinished:
            self._groups, self._claims = {}, Ownership()
        self._is_unfinished = True
        found = self._scan(pause, comparison, changes, afresh, everything, walk_seconds)
        self._is_unfinished = False
        return found

    def _scan(
        self,
        pause: Callable[[], None],
        comparison: _Comparison,
        changes: Changes,
        afresh: bool,
        everything: bool,
        walk_seconds: float,
    ) -> list[FoundModel]:
        roots_before = self._roots
        self._reader.begin_scan()
        in_slices(self._compare_reported(comparison, changes, afresh, everything), pause)
        if walk_seconds and not everything:
            in_slices(self._walk(comparison, walk_seconds), pause)
        in_slices(self._leftovers.inspect_again(), pause)
        if comparison.is_rearranged or self._equal.is_due or self._leftovers.is_due:
            known = len(self._registry)
            in_slices(self._find_roots(comparison.changed), pause)
            if len(self._registry) > known:  # the search came upon modules that hold some of the others
                in_slices(
                    self._compare_reported(comparison, self._registry.take_changes(), afresh=False, everything=False), pause
                )
                in_slices(self._find_roots(comparison.changed), pause)
        if comparison.changed or comparison.is_rearranged or self._roots is not roots_before:
            if not comparison.is_rearranged and self._roots is roots_before:
                in_slices(self._update(comparison), pause)
            in_slices(self._assemble_changed(comparison.changed), pause)
        models = [model for group in self._groups.values() for model in group.models if not model.is_counted_elsewhere]
        in_slices(self._shared.update(models, self._readings), pause)
        return [*self._shared.found]

    @property
    def storages(self) -> Collection[tuple[str, int]]:
        """The storages of all models of the last scan. A view, for membership tests only."""
        return self._claims.storages

    def measure(
        self, training_state: TrainingState, pause: Callable[[], None], beside: set[tuple[str, int]] | None = None
    ) -> NonModelBytes:
        """The memory that is kept beside the models of the last scan; `beside` receives its storages, if they are wanted."""
        parts = NonModelBytes()
        in_slices(training_state.measure(self._readings, self._claims.storages, parts, beside), pause)
        return parts

    def _compare_reported(self, comparison: _Comparison, changes: Changes, afresh: bool, everything: bool) -> Iterator[None]:
        """Compare the modules of which the registry was notified with their last readings, and read those that differ."""
        yield from comparison.forget(changes.died)
        unread, self._unread = self._unread, []
        yield from self._compare(self._registry.refs() if everything else [*unread, *changes.added], comparison, afresh)
        for key in changes.touched:
            yield from self._read_below(key, comparison)
        if not everything:
            holders: list[KeyedRef] = []
            yield from self._find_former_holders(changes, comparison, holders)
            yield from self._compare(holders, comparison)

    def _find_former_holders(self, changes: Changes, comparison: _Comparison, holders: list[KeyedRef]) -> Iterator[None]:
        """Append the modules that held a deleted module, or one that a new module holds: they may hold another in its place."""
        moved = {ref.key for ref in changes.died}
        for ref in changes.added:
            if (reading := comparison.readings.get(ref.key)) is not None:
                moved.update([key for _, key in reading.children])
        if not moved:
            return
        for some in batched(comparison.readings, MODULES_PER_STEP):
            for key in some:
                reading = comparison.readings.get(key)
                if reading is None or not reading.children or key in comparison.read:
                    continue
                if not moved.isdisjoint([child for _, child in reading.children]):
                    holders.append(reading.ref)
            yield

    def _compare(self, refs: Sequence[KeyedRef], comparison: _Comparison, afresh: bool = False) -> Iterator[None]:
        """Compare these modules with their last readings, and read those that differ."""
        guard = self._failures.guard("comparing modules")
        for start in range(0, len(refs), MODULES_PER_STEP):
            batch = [ref for ref in refs[start : start + MODULES_PER_STEP] if ref.key not in comparison.read]
            different = batch
            with guard:
                if not afresh:
                    different = self._reader.changed(batch, comparison.readings)
            yield from self._read(different, comparison)
            yield

    def _walk(self, comparison: _Comparison, seconds: float) -> Iterator[None]:
        """Find changes without notice: compare a few modules of each model, then all in turn, then all of models that changed."""
        until = time.thread_time() + seconds
        before = set(comparison.changed)
        compared: set[int] = set()
        for group in self._groups.values():
            yield from self._compare(self._refs_of(group.probes), comparison)
            if time.thread_time() >= until:
                break
        if not self._to_walk:
            self._to_walk = self._registry.refs()
            self._to_walk.reverse()
        # At least some in each scan: on a busy machine the few of each model can take all the time there is.
        while self._to_walk and (not compared or time.thread_time() < until):
            some = self._to_walk[: -MODULES_PER_STEP - 1 : -1]
            del self._to_walk[-MODULES_PER_STEP:]
            compared.update([ref.key for ref in some])
            yield from self._compare(some, comparison)
        for root in (yield from self._claims.roots_with(comparison.changed - before)):
            for members in self._groups[root].members:
                yield from self._compare(self._refs_of(members - compared), comparison)

    def _refs_of(self, keys: Iterable[int]) -> list[KeyedRef]:
        return [reading.ref for key in keys if (reading := self._readings.get(key)) is not None]

    def _read_below(self, root: int, comparison: _Comparison) -> Iterator[None]:
        """Read this module and all below it anew: the origin of their values may be the only change."""
        waiting, met = deque([root]), {root}
        while waiting:
            some = [waiting.popleft() for _ in range(min(len(waiting), READINGS_PER_STEP))]
            yield from self._read([ref for key in some if (ref := self._registry.ref(key)) is not None], comparison)
            for key in some:
                reading = comparison.readings.get(key)
                if reading is not None and (reading.children or reading.unregistered):
                    below = [key for _, key in reading.children] + [one.key for one in reading.unregistered]
                    waiting += [key for key in below if key not in met]
                    met.update(below)
            yield

    def _read(self, refs: Sequence[KeyedRef], comparison: _Comparison) -> Iterator[None]:
        """Read these modules, and those below them that were never read."""
        waiting = list(reversed(refs))
        read, readings, registry, known = comparison.read, comparison.readings, self._registry, self._registry.known
        while waiting:
            ref = waiting.pop()
            if ref.key in read:
                continue
            if len(read) % READINGS_PER_STEP == 0:
                yield
            reading = None
            try:
                reading = self._reader.read(ref, known, registry.add)
            except Exception as error:  # noqa: BLE001  # like a guard, but one per module would cost more than it seems
                self._failures.note("reading a module", error)
            if reading is None:
                if ref() is not None:
                    self._unread.append(ref)
                continue
            if reading.stamp == CHANGED_MEANWHILE:
                self._unread.append(ref)
            comparison.note(ref.key, reading)
            if not (reading.children or reading.unregistered):
                continue
            below = [key for _, key in reading.children] + [one.key for one in reading.unregistered]
            waiting += [found for key in below if key not in readings and (found := registry.ref(key)) is not None]

    def _find_roots(self, changed: set[int]) -> Iterator[None]:
        """Find the models, and the owners of unregistered modules; owners that gained or lost such modules count as changed."""
        before, forest = self._forest.adopted, Forest(self._readings)
        roots: list[tuple[int, int]] = []
        yield from find_roots(forest, roots)
        changed.update(key for key in before.keys() | forest.adopted.keys() if before.get(key) != forest.adopted.get(key))
        left: dict[tuple[int, ...], FormerModel] = {}
        yield from self._leftovers.find(self._readings, roots, self._model_with, left)
        self._left_of = {keys[0]: former for keys, former in left.items()}
        self._equal_roots = {keys[0]: keys for keys in left if len(keys) > 1}
        all_left = {key for keys in left for key in keys}
        yield from self._equal.find(forest, [pair for pair in roots if pair[0] not in all_left], self._equal_roots)
        others = {key for first, keys in self._equal_roots.items() for key in keys if key != first}
        self._forest, self._roots = forest, [pair for pair in roots if pair[0] not in others]

    def _model_with(self, module: int) -> FormerModel | None:
        """Of which model this module was a part in the previous scan; of the first, where several have it."""
        root = next(iter(self._claims.roots_of(module)), None)
        group = self._groups.get(root) if root is not None else None
        if group is None or group.core_ref is None:
            return None
        return FormerModel(group.core_ref, group.models[0].class_name if group.models else "")

    def _update(self, comparison: _Comparison) -> Iterator[None]:
        """Update the models of modules in which only tensors were exchanged, and drop these modules from the changed ones."""
        of_roots: dict[int, dict[int, tuple[ModuleReading, ModuleReading]]] = {}
        for key in comparison.changed & comparison.former.keys() if len(comparison.changed) <= MOST_EXCHANGED else ():
            root = self._claims.only_root_with(key)
            if root is not None:
                of_roots.setdefault(root, {})[key] = comparison.former[key], comparison.readings[key]
        for root, exchanged in of_roots.items():
            if (yield from self._groups[root].update(exchanged, self._claims)):
                comparison.changed.difference_update(exchanged)

    def _assemble_changed(self, changed: Set[int]) -> Iterator[None]:
        """Assemble the models that changed; all others only if they share something with these."""
        claims = self._claims
        touched = yield from claims.roots_with(changed)
        new: dict[int, Group] = {}
        for root, core in self._roots:
            group = self._groups.get(root)
            made_of = core, self._equal_roots.get(root, ()), self._left_of.get(root)
            if group is None or root in touched or group.made_of != made_of:
                new[root] = Group(*made_of)
        died = self._groups.keys() - {root for root, _ in self._roots}
        before = {root: self._groups[root] for root in (*new, *died) if root in self._groups}
        are_apart = True
        for group in before.values():
            are_apart = are_apart and (yield from claims.is_unshared(group))
        if are_apart:
            for root, group in before.items():
                yield from claims.drop(root, group)
            for root, group in new.items():
                yield from self._assemble(root, group, CountedAlready())
            for root, group in new.items():
                are_apart &= yield from claims.take(root, group)
            if are_apart:
                self._groups = {root: new.get(root) or self._groups[root] for root, _ in self._roots}
                return
        yield from self._assemble_in_turn(changed)

    def _assemble_in_turn(self, changed: Set[int]) -> Iterator[None]:
        """Go through all models. A storage that two of them hold counts towards the first, and a model that two containers
        hold is listed under the first."""
        groups: dict[int, Group] = {}
        taken, claims = CountedAlready(), Ownership()
        for root, core in self._roots:
            group = self._groups.get(root)
            made_of = core, self._equal_roots.get(root, ()), self._left_of.get(root)
            if group is None or group.made_of != made_of or group.is_outdated(core, changed, taken):
                group = Group(*made_of)
                yield from self._assemble(root, group, taken)
            else:
                for model in group.models:
                    yield from taken.add(model)
            groups[root] = group
            yield from claims.take(root, group)
        self._groups, self._claims = groups, claims

    def _assemble(self, root: int, group: Group, taken: CountedAlready) -> Iterator[None]:
        """Add the root's models to the group, and what they hold to `taken`."""
        parts: list[Part] = []
        group.core_ref = self._readings[group.core].ref
        if group.equal_roots or group.left_of is not None:
            parts.append(Part(root, group.core, equal_roots=group.equal_roots, left_of=group.left_of))
        else:
            yield from parts_of(root, group.core, self._forest, parts)
        for part in parts:
            if part.core in taken.cores:
                group.cores_elsewhere.add(part.core)
                continue
            made: list[FoundModel] = []
            members: set[int] = set()
            yield from assemble(part, self._forest, frozenset(), made, members)
            if any(not model.storages.keys().isdisjoint(taken.storages) for model in made):
                counted_elsewhere = frozenset(key for model in made for key in taken.storages & model.storages.keys())
                made, members = [], set()
                yield from assemble(part, self._forest, counted_elsewhere, made, members)
            for model in made:
                yield from taken.add(model)
            group.models += made
            group.members.append(members)
            with_memory = (key for key in members if self._readings[key].storages)
            group.probes += islice(with_memory, PROBES)
