"""Groups equal modules that no module holds: layers in the list of an object that is no module become one row, not hundreds.

Only the garbage collector can tell who holds them, by a pass over all objects that it tracks: some 80 ms per million. So it is
asked only about eight or more roots of one shape, once about each, and not again until a hundred times as long has passed.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from types import BuiltinFunctionType, CellType, CoroutineType, FrameType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any, Final

from gpumodels.models.adoption import Forest
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.failures import Failures
from gpumodels.support.instances import container_of, mro_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.tracked_objects import referrers_of
from gpumodels.support.weak_table import KeyedRef
from gpumodels_shared.shards import checkpoint_of

MIN_EQUAL_ROOTS: Final = 8
"""So many roots of one shape are layers of something."""
MAX_PIECES: Final = 2000
"""Modules and storages of one root; a root with more is a model."""
CONTAINERS: Final = frozenset({"ModuleList", "ModuleDict", "Sequential"})
LAYER_SUFFIXES: Final = ("Layer", "Block", "Expert", "Experts")
"""How class names of layers end, whatever the layers are made of."""
MAX_SAMPLES: Final = 8
MAX_LEVELS: Final = 4
"""How far up from a layer its holders are searched for: list, list of lists, instance dictionary, object, module."""
MAX_HOLDERS: Final = 32
"""On one level; modules with more holders are something other than an object's layers."""
MAX_VISITED: Final = 20_000
REST_FACTOR: Final = 100
"""No search begins until so many times the duration of the last one has passed."""
STEP: Final = 64

_NO_HOLDERS: Final = frozenset(
    {FrameType, FunctionType, BuiltinFunctionType, CellType, GeneratorType, CoroutineType, MethodType, ModuleType, type}
)

Shape = tuple[Any, ...]


@never_pickled
class EqualRoots:
    """Remembers which roots one object holds, for as long as they live."""

    def __init__(
        self,
        registry: ModuleRegistry,
        failures: Failures,
        module_type: type,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._registry = registry
        self._failures = failures
        self._module_type = module_type
        self._clock = clock
        self._numbers = count()
        self._group_numbers: dict[int, tuple[KeyedRef, int | None]] = {}
        """By root, its reference and the number of its group; None if it belongs to no group."""
        self._is_waiting = False
        self._not_before = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether there are roots whose holders were not searched for yet, and a search is allowed now."""
        return self._is_waiting and self._clock() >= self._not_before

    def find(self, forest: Forest, roots: Sequence[tuple[int, int]], equal_roots: dict[int, tuple[int, ...]]) -> Iterator[None]:
        """Fill `equal_roots`: for the first of some equal roots that one object holds, all of them.

        A module that turns out to hold some of them, and that was unknown so far, is added to the registry.
        """
        self._is_waiting = False
        readings = forest.readings
        alone = [root for root, core in roots if root == core and not readings[root].has_identity]
        frequent = {
            name for name, number in Counter(readings[key].class_name for key in alone).items() if number >= MIN_EQUAL_ROOTS
        }
        if not frequent:
            self._group_numbers.clear()
            return
        shapes: dict[Shape, list[int]] = {}
        for number, key in enumerate(alone):
            if readings[key].class_name in frequent and (shape := _shape(key, forest)) is not None:
                shapes.setdefault(shape, []).append(key)
            if number % STEP == 0:
                yield
        equal = [keys for keys in shapes.values() if len(keys) >= MIN_EQUAL_ROOTS]
        living = {key for keys in equal for key in keys}
        self._group_numbers = {
            key: known for key, known in self._group_numbers.items() if key in living and known[0] is forest.readings[key].ref
        }
        for keys in equal:
            yield
            unknown = [key for key in keys if key not in self._group_numbers]
            if unknown:
                self._search_if_allowed(keys, unknown, forest)
            by_number: dict[int, list[int]] = {}
            for key in keys:
                known = self._group_numbers.get(key)
                if known is not None and known[1] is not None:
                    by_number.setdefault(known[1], []).append(key)
            equal_roots.update((some[0], tuple(some)) for some in by_number.values() if len(some) >= MIN_EQUAL_ROOTS)

    def _search_if_allowed(self, keys: Sequence[int], unknown: Sequence[int], forest: Forest) -> None:
        started = self._clock()
        if started < self._not_before:
            self._is_waiting = True
            return
        groups: list[set[int]] = []
        with self._failures.guard("searching for the holders of equal modules"):
            samples = [forest.readings[key].ref for key in unknown[:: max(1, len(unknown) // MAX_SAMPLES)][:MAX_SAMPLES]]
            groups = self._holders_of(samples, set(keys))
        self._not_before = self._clock() + REST_FACTOR * (self._clock() - started)
        for key in unknown:
            self._group_numbers[key] = (forest.readings[key].ref, None)
        for group in groups:
            number = next(self._numbers)
            for key in group:
                self._group_numbers[key] = (forest.readings[key].ref, number)

    def _holders_of(self, samples: Sequence[KeyedRef], keys: set[int]) -> list[set[int]]:
        """Groups of roots that one list, dict or object holds, largest first. Keeps no object of the host's once it returns."""
        level: list[Any] = [module for ref in samples if (module := ref()) is not None]
        is_open = dict.fromkeys(map(id, level), True)
        found: list[set[int]] = []
        for height in range(MAX_LEVELS):
            above: list[Any] = []
            opened: dict[int, bool] = {}
            asked = tuple(level)  # from Python 3.13 on, the tuple of arguments is among the referrers
            for holder in referrers_of(asked):
                kind = type(holder)
                if holder is level or holder is asked or holder is is_open or kind in _NO_HOLDERS or _is_namespace(holder):
                    continue
                mro = mro_of(kind)
                if self._module_type in mro:
                    self._registry.add(holder)
                    continue
                above.append(holder)
                if any(is_open.get(id(held), False) for held in gc.get_referents(holder)):
                    group = self._reachable(holder, height, keys)
                    if len(group) >= MIN_EQUAL_ROOTS:
                        found.append(group)
                    # What one object holds is one group, whoever holds that object, unless it is a module.
                    opened[id(holder)] = len(group) < MIN_EQUAL_ROOTS or container_of(mro) is not None
            if not above or len(above) > MAX_HOLDERS:
                break
            level, is_open = above, opened
        groups: list[set[int]] = []
        for group in sorted(found, key=len, reverse=True):
            rest = group.difference(*groups)
            if len(rest) >= MIN_EQUAL_ROOTS:
                groups.append(rest)
        return groups

    def _reachable(self, holder: Any, height: int, keys: set[int]) -> set[int]:
        """Those of these modules that lie at most so many levels below the holder."""
        reached: set[int] = set()
        visited = 0
        level = [holder]
        for _ in range(height + 1):
            below: list[Any] = []
            for one in level:
                for held in gc.get_referents(one):
                    if id(held) in keys:
                        reached.add(id(held))
                    elif type(held) not in _NO_HOLDERS and self._module_type not in mro_of(type(held)):
                        below.append(held)
                visited += 1
                if visited > MAX_VISITED:
                    return reached
            level = below
        return reached


def _holds_blocks(container: int, forest: Forest) -> bool:
    """Whether it holds several modules of one class, as the containers of blocks in models do."""
    classes: Counter[str] = Counter()
    for _, child in forest.children(container):
        if child in forest.readings:
            classes[forest.readings[child].class_name] += 2 if forest.children(child) else 1
    return max(classes.values(), default=0) > 3


def _is_namespace(holder: Any) -> bool:
    """Whether it is the dictionary of a Python module, whose global variables don't form a group."""
    return type(holder) is dict and "__name__" in holder and "__spec__" in holder


def _shape(root: int, forest: Forest) -> Shape | None:
    """What equal modules have in common: classes, names, bytes, and the checkpoint that they came from; None for models."""
    found: list[Any] = []
    waiting = [("", root)]
    may_be_model = not forest.readings[root].class_name.endswith(LAYER_SUFFIXES)
    while waiting:
        name, key = waiting.pop()
        reading = forest.readings[key]
        if may_be_model and reading.class_name in CONTAINERS and _holds_blocks(key, forest):
            return None
        found.append((name, reading.class_name))
        for storage in reading.storages:
            file = checkpoint_of(storage.origin.path) if storage.origin is not None and storage.origin.path else ""
            found.append((storage.key[0], storage.dtype, storage.size_bytes, storage.tensor, file))
        waiting += [child for child in forest.children(key) if child[1] in forest.readings]
        if len(waiting) + len(found) > MAX_PIECES:
            return None
    return tuple(found)
