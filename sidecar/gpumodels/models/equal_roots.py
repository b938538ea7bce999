"""Many equal modules that no module holds: layers in the list of an object that is no module are one row, not hundreds.

Who holds them, only the garbage collector can tell, by a pass over all it tracks: some 80 ms per million objects. So it is
asked for eight or more roots of one shape only, once for each, and not again until a hundred times that has passed.
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
from gpumodels.support.resident import resident
from gpumodels.support.weak_table import KeyedRef
from gpumodels_shared.file_names import checkpoint_of

LEAST: Final = 8
"""So many of one shape are layers of something."""
MAX_PIECES: Final = 2000
"""Of one root, modules and storages; what has more is a model."""
CONTAINERS: Final = frozenset({"ModuleList", "ModuleDict", "Sequential"})
LAYERS: Final = ("Layer", "Block", "Expert", "Experts")
"""How classes of layers are called, whatever they are made of."""
SAMPLES: Final = 8
LEVELS: Final = 4
"""How far up from a layer: list, list of lists, instance dictionary, object, module."""
MAX_HOLDERS: Final = 32
"""On one level; more is something else than an object's layers."""
MAX_VISITED: Final = 20_000
REST: Final = 100
"""Times as long as a search took, none follows."""
STEP: Final = 64

_NO_HOLDERS: Final = frozenset(
    {FrameType, FunctionType, BuiltinFunctionType, CellType, GeneratorType, CoroutineType, MethodType, ModuleType, type}
)

Shape = tuple[Any, ...]


@resident
class EqualRoots:
    """Remembers which roots lie together, for as long as they live."""

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
        self._known: dict[int, tuple[KeyedRef, int | None]] = {}
        """By root, its reference and the number of those it lies together with; None where it lies alone."""
        self._is_waiting = False
        self._not_before = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether there are roots that were not searched for, and may be now."""
        return self._is_waiting and self._clock() >= self._not_before

    def find(self, forest: Forest, roots: Sequence[tuple[int, int]], together: dict[int, tuple[int, ...]]) -> Iterator[None]:
        """Fill `together`: for the first of some equal roots that lie together, all of them.

        A module among the holders, unknown so far, is made known to the registry: these roots are its own.
        """
        self._is_waiting = False
        readings = forest.readings
        alone = [root for root, core in roots if root == core and not readings[root].has_identity]
        often = {name for name, number in Counter(readings[key].class_name for key in alone).items() if number >= LEAST}
        if not often:
            self._known.clear()
            return
        shapes: dict[Shape, list[int]] = {}
        for number, key in enumerate(alone):
            if readings[key].class_name in often and (shape := _shape(key, forest)) is not None:
                shapes.setdefault(shape, []).append(key)
            if number % STEP == 0:
                yield
        equal = [keys for keys in shapes.values() if len(keys) >= LEAST]
        living = {key for keys in equal for key in keys}
        self._known = {key: known for key, known in self._known.items() if key in living and known[0] is forest.readings[key].ref}
        for keys in equal:
            yield
            unknown = [key for key in keys if key not in self._known]
            if unknown:
                self._search_if_allowed(keys, unknown, forest)
            by_number: dict[int, list[int]] = {}
            for key in keys:
                known = self._known.get(key)
                if known is not None and known[1] is not None:
                    by_number.setdefault(known[1], []).append(key)
            together.update((some[0], tuple(some)) for some in by_number.values() if len(some) >= LEAST)

    def _search_if_allowed(self, keys: Sequence[int], unknown: Sequence[int], forest: Forest) -> None:
        started = self._clock()
        if started < self._not_before:
            self._is_waiting = True
            return
        groups: list[set[int]] = []
        with self._failures.guard("searching for who holds equal modules"):
            samples = [forest.readings[key].ref for key in unknown[:: max(1, len(unknown) // SAMPLES)][:SAMPLES]]
            groups = self._holders_of(samples, set(keys))
        self._not_before = self._clock() + REST * (self._clock() - started)
        for key in unknown:
            self._known[key] = (forest.readings[key].ref, None)
        for group in groups:
            number = next(self._numbers)
            for key in group:
                self._known[key] = (forest.readings[key].ref, number)

    def _holders_of(self, samples: Sequence[KeyedRef], keys: set[int]) -> list[set[int]]:
        """The roots that lie in one list, dict or object, the largest groups first. Nothing of theirs is kept when it returns."""
        level: list[Any] = [module for ref in samples if (module := ref()) is not None]
        is_open = dict.fromkeys(map(id, level), True)
        found: list[set[int]] = []
        for height in range(LEVELS):
            above: list[Any] = []
            opened: dict[int, bool] = {}
            asked = tuple(level)  # from Python 3.13 on the arguments are among the answers
            for holder in gc.get_referrers(*asked):
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
                    if len(group) >= LEAST:
                        found.append(group)
                    # What an object holds is together; who holds the object is no matter, but for a module.
                    opened[id(holder)] = len(group) < LEAST or container_of(mro) is not None
            if not above or len(above) > MAX_HOLDERS:
                break
            level, is_open = above, opened
        groups: list[set[int]] = []
        for group in sorted(found, key=len, reverse=True):
            rest = group.difference(*groups)
            if len(rest) >= LEAST:
                groups.append(rest)
        return groups

    def _reachable(self, holder: Any, height: int, keys: set[int]) -> set[int]:
        """Which of these modules lie so many levels below."""
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
    """Whether it holds several modules of one class, as the models do that have names of their own."""
    classes: Counter[str] = Counter()
    for _, child in forest.children(container):
        if child in forest.readings:
            classes[forest.readings[child].class_name] += 2 if forest.children(child) else 1
    return max(classes.values(), default=0) > 3


def _is_namespace(holder: Any) -> bool:
    """Whether it is the dictionary of a Python module: what lies there lies nowhere in particular."""
    return type(holder) is dict and "__name__" in holder and "__spec__" in holder


def _shape(root: int, forest: Forest) -> Shape | None:
    """What is equal in equal modules: classes, names, bytes, and the checkpoint that they came from; None for models."""
    found: list[Any] = []
    waiting = [("", root)]
    may_be_model = not forest.readings[root].class_name.endswith(LAYERS)
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
