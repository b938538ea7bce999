"""The models of each root, and who holds which modules and storages: what must be assembled anew after a change."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Set
from typing import Final

from gpumodels.models.assembling import FormerModel, FoundModel
from gpumodels.models.updating import Exchanged, storages_of, updated
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.slices import batched
from gpumodels.support.weak_table import KeyedRef

KEYS_PER_STEP: Final = 1000
"""Modules, or storages, that are processed in one step."""


@never_pickled
class CountedAlready:
    """The storages and the cores of the models assembled so far, which later models may not count again."""

    def __init__(self) -> None:
        self.storages: set[tuple[str, int]] = set()
        self.cores: set[int] = set()

    def add(self, model: FoundModel) -> Iterator[None]:
        """Add a model's core and storages."""
        self.cores.add(model.core)
        for keys in batched(model.storages, KEYS_PER_STEP):
            self.storages.update(keys)
            yield


@never_pickled
class Ownership:
    """Which root's models hold what. With this, a model that shares nothing is assembled without going through the others."""

    def __init__(self) -> None:
        self._roots: dict[int, int] = {}
        """By module, the root that it lies below: one of them, if there are several."""
        self._roots_of_shared: dict[int, set[int]] = {}
        """By module that lies below several roots, all of these."""
        self._holders: dict[tuple[str, int], int] = {}
        """By storage, the number of groups that hold it."""
        self._cores: dict[int, int] = {}
        """By core, the number of groups that hold it."""

    @property
    def storages(self) -> Collection[tuple[str, int]]:
        """All storages that any group holds. A view, for membership tests only."""
        return self._holders.keys()

    def roots_with(self, modules: Set[int]) -> Generator[None, None, set[int]]:
        """The roots that have any of these modules below them."""
        found: set[int] = set()
        for some in batched(modules, KEYS_PER_STEP):
            found.update({root for key in some if (root := self._roots.get(key)) is not None})
            if self._roots_of_shared:
                found.update(root for key in some for root in self._roots_of_shared.get(key, ()))
            yield
        return found

    def take(self, root: int, group: Group) -> Generator[None, None, bool]:
        """Add a group. Returns whether no other group holds any of its modules' storages or cores."""
        is_apart = not group.cores_elsewhere
        roots, holders = self._roots, self._holders
        for members in group.members:
            for some in batched(members, KEYS_PER_STEP):
                for key in some:
                    other = roots.setdefault(key, root)
                    if other != root:
                        self._roots_of_shared.setdefault(key, {other}).add(root)
                yield
        for keys in batched(group.storages(), KEYS_PER_STEP):
            for storage in keys:
                count = holders[storage] = holders.get(storage, 0) + 1
                is_apart &= count == 1
            yield
        for core in group.cores():
            count = self._cores[core] = self._cores.get(core, 0) + 1
            is_apart &= count == 1
        return is_apart

    def is_unshared(self, group: Group) -> Generator[None, None, bool]:
        """Whether no other group holds any of this group's storages or cores."""
        if group.cores_elsewhere or any(self._cores[core] > 1 for core in group.cores()):
            return False
        for keys in batched(group.storages(), KEYS_PER_STEP):
            if any(self._holders[key] != 1 for key in keys):
                return False
            yield
        return True

    def roots_of(self, module: int) -> Collection[int]:
        """The roots that have this module below them."""
        root = self._roots.get(module)
        return self._roots_of_shared.get(module) or (() if root is None else (root,))

    def only_root_with(self, module: int) -> int | None:
        """The root that has this module below it; None if there are several, or none."""
        return None if module in self._roots_of_shared else self._roots.get(module)

    def exchange(self, before: Collection[tuple[str, int]], now: Collection[tuple[str, int]]) -> bool:
        """Replace storages of one group by others, if no other group holds any of them. Returns whether it did."""
        if any(self._holders[key] != 1 for key in before) or any(key in self._holders and key not in before for key in now):
            return False
        for key in before:
            del self._holders[key]
        self._holders.update(dict.fromkeys(now, 1))
        return True

    def drop(self, root: int, group: Group) -> Iterator[None]:
        """Remove a group that shares no storage or core with another."""
        for members in group.members:
            for some in batched(members, KEYS_PER_STEP):
                for key in some:
                    roots = self._roots_of_shared.get(key)
                    if roots is None:
                        self._roots.pop(key, None)
                        continue
                    roots.discard(root)
                    self._roots[key] = next(iter(roots))
                    if len(roots) == 1:
                        del self._roots_of_shared[key]
                yield
        for keys in batched(group.storages(), KEYS_PER_STEP):
            for storage in keys:
                del self._holders[storage]
            yield
        for core in group.cores():
            del self._cores[core]


@never_pickled
class Group:
    """The models of one root, with what tells whether they are still up to date."""

    def __init__(self, core: int, equal_roots: tuple[int, ...], left_of: FormerModel | None = None) -> None:
        self.core = core
        self.equal_roots = equal_roots
        self.left_of = left_of
        self.core_ref: KeyedRef | None = None
        """The core's module, alive or dead."""
        self.models: list[FoundModel] = []
        self.members: list[set[int]] = []
        """By part, the keys of all its modules, those without memory included."""
        self.probes: list[int] = []
        """Keys of a few modules of each part. A change to a part as a whole is noticed at once by reading these."""
        self.cores_elsewhere: set[int] = set()
        """Cores of parts that are listed under another root."""

    @property
    def made_of(self) -> tuple[int, tuple[int, ...], FormerModel | None]:
        """What it was made from: from something else, it is another group."""
        return self.core, self.equal_roots, self.left_of

    def cores(self) -> Set[int]:
        """The cores of all its parts, those under another root included."""
        return self.cores_elsewhere.union(model.core for model in self.models)

    def storages(self) -> Set[tuple[str, int]]:
        """All storages that its models hold."""
        if len(self.models) == 1:
            return self.models[0].storages.keys()
        return {key for model in self.models for key in model.storages}

    def update(self, exchanged: Exchanged, claims: Ownership) -> Generator[None, None, bool]:
        """Update the sums for modules that hold other tensors now. Returns False if the group must be assembled anew instead."""
        before = storages_of(former for former, _ in exchanged.values())
        now = storages_of(reading for _, reading in exchanged.values())
        if before is None or now is None:
            return False
        affected = [number for number, members in enumerate(self.members) if not exchanged.keys().isdisjoint(members)]
        if len(affected) != 1 or len(self.models) != len(self.members):
            return False  # they lie in several parts, or some part has adapters or no memory
        if any(not before.keys().isdisjoint(other.counted_elsewhere) for other in self.models):
            return False
        model = yield from updated(self.models[affected[0]], exchanged, before, now)
        if model is None or not claims.exchange(before, now):
            return False
        self.models[affected[0]] = model
        return True

    def is_outdated(self, core: int, changed: Set[int], taken: CountedAlready) -> bool:
        """Whether the group must be assembled anew."""
        if not self.models or self.core != core or not self.cores_elsewhere <= taken.cores:
            return True
        if any(not members.isdisjoint(changed) for members in self.members):
            return True
        if any(model.core in taken.cores for model in self.models):
            return True
        within: set[tuple[str, int]] = set()
        for model in self.models:
            keys = model.storages.keys()  # a view's `isdisjoint` goes through the smaller of the two
            overlaps = not (keys.isdisjoint(taken.storages) and keys.isdisjoint(within))
            if (overlaps or model.counted_elsewhere) and (
                taken.storages | within
            ) & model.storages.keys() != model.counted_elsewhere:
                return True
            if len(self.models) > 1:
                within.update(model.storages)
        return False
