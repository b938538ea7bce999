"""The models of one root, and who holds what: which of them must be put together anew when something changed."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Set
from typing import Final

from gpumodels.models.assembling import FoundModel
from gpumodels.models.updating import Exchanged, storages_of, updated
from gpumodels.support.resident import resident
from gpumodels.support.slices import batched

KEYS_PER_STEP: Final = 1000
"""Of modules or storages."""


@resident
class Taken:
    """What the models before have: their storages, and the modules that they are about."""

    def __init__(self) -> None:
        self.storages: set[tuple[str, int]] = set()
        self.cores: set[int] = set()

    def add(self, model: FoundModel) -> Iterator[None]:
        """This model has it."""
        self.cores.add(model.core)
        for keys in batched(model.storages, KEYS_PER_STEP):
            self.storages.update(keys)
            yield


@resident
class Claims:
    """Which root's models hold what, so that a model that shares nothing can be put together without a look at the others."""

    def __init__(self) -> None:
        self._roots: dict[int, int] = {}
        """By module."""
        self._among: dict[int, set[int]] = {}
        """Of modules below several roots, all of these."""
        self._holders: dict[tuple[str, int], int] = {}
        """By storage, how many groups hold it."""
        self._cores: dict[int, int] = {}

    @property
    def storages(self) -> Collection[tuple[str, int]]:
        """All that any group holds; to be looked into only."""
        return self._holders.keys()

    def roots_with(self, modules: Set[int]) -> Generator[None, None, set[int]]:
        """Roots that have one of these modules below them."""
        found: set[int] = set()
        for some in batched(modules, KEYS_PER_STEP):
            found.update({root for key in some if (root := self._roots.get(key)) is not None})
            if self._among:
                found.update(root for key in some for root in self._among.get(key, ()))
            yield
        return found

    def take(self, root: int, group: Group) -> Generator[None, None, bool]:
        """The group holds what it holds; whether nobody else holds any of it."""
        is_apart = not group.stand_elsewhere
        roots, holders = self._roots, self._holders
        for members in group.members:
            for some in batched(members, KEYS_PER_STEP):
                for key in some:
                    other = roots.setdefault(key, root)
                    if other != root:
                        self._among.setdefault(key, {other}).add(root)
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

    def are_nobody_elses(self, group: Group) -> Generator[None, None, bool]:
        """Whether no other group holds any of it."""
        if group.stand_elsewhere or any(self._cores[core] > 1 for core in group.cores()):
            return False
        for keys in batched(group.storages(), KEYS_PER_STEP):
            if any(self._holders[key] != 1 for key in keys):
                return False
            yield
        return True

    def only_root_with(self, module: int) -> int | None:
        """The root that has this module below it, if it is one."""
        return None if module in self._among else self._roots.get(module)

    def exchange(self, before: Collection[tuple[str, int]], now: Collection[tuple[str, int]]) -> bool:
        """One group holds these storages instead of those, if it alone holds them; whether it does."""
        if any(self._holders[key] != 1 for key in before) or any(key in self._holders and key not in before for key in now):
            return False
        for key in before:
            del self._holders[key]
        self._holders.update(dict.fromkeys(now, 1))
        return True

    def drop(self, root: int, group: Group) -> Iterator[None]:
        """A group that holds nothing of others is no more."""
        for members in group.members:
            for some in batched(members, KEYS_PER_STEP):
                for key in some:
                    among = self._among.get(key)
                    if among is None:
                        self._roots.pop(key, None)
                        continue
                    among.discard(root)
                    self._roots[key] = next(iter(among))
                    if len(among) == 1:
                        del self._among[key]
                yield
        for keys in batched(group.storages(), KEYS_PER_STEP):
            for storage in keys:
                del self._holders[storage]
            yield
        for core in group.cores():
            del self._cores[core]


@resident
class Group:
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

    def update(self, exchanged: Exchanged, claims: Claims) -> Generator[None, None, bool]:
        """These modules hold other tensors; whether that could be told without putting a model together."""
        before = storages_of(former for former, _ in exchanged.values())
        now = storages_of(reading for _, reading in exchanged.values())
        if before is None or now is None:
            return False
        theirs = [number for number, members in enumerate(self.members) if not exchanged.keys().isdisjoint(members)]
        if len(theirs) != 1 or len(self.models) != len(self.members):
            return False  # in several parts, or in a part with adapters or nothing in it
        if any(not before.keys().isdisjoint(other.elsewhere) for other in self.models):
            return False
        model = yield from updated(self.models[theirs[0]], exchanged, before, now)
        if model is None or not claims.exchange(before, now):
            return False
        self.models[theirs[0]] = model
        return True

    def is_outdated(self, core: int, changed: Set[int], taken: Taken) -> bool:
        """Whether what was put together before is no longer true."""
        if not self.models or self.core != core or not self.stand_elsewhere <= taken.cores:
            return True
        if any(not members.isdisjoint(changed) for members in self.members):
            return True
        if any(model.core in taken.cores for model in self.models):
            return True
        within: set[tuple[str, int]] = set()
        for model in self.models:
            keys = model.storages.keys()  # asked, not asking: then the smaller of both is gone through
            overlaps = not (keys.isdisjoint(taken.storages) and keys.isdisjoint(within))
            if (overlaps or model.elsewhere) and (taken.storages | within) & model.storages.keys() != model.elsewhere:
                return True
            if len(self.models) > 1:
                within.update(model.storages)
        return False
