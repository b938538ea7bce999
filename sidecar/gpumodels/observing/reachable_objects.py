"""Finds objects of some classes by following references, where the garbage collector doesn't tell: after `gc.freeze()`.

Servers that fork after loading freeze what they have loaded, so that their workers share its memory. `gc.get_objects()` leaves
frozen objects out, but what each object refers to can still be asked. So they are found from what holds them: the global
variables of modules, the local variables of running functions, and the classes and objects that these lead to. Code of the host
comes first, then what is installed, and the standard library and torch last.

The walk goes in slices and holds nothing of the host between them: it remembers its path as numbers, and finds its way back by
following it again. What was let go of meanwhile is left out.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import compress
from types import ModuleType
from typing import Any, Final

from gpumodels.observing.live_frames import frames_of_threads, locals_of
from gpumodels.support.instances import container_of, mro_of, package_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.slices import SLICE_SECONDS

MAX_ITEMS: Final = 10_000
"""Larger lists and dictionaries are data."""
LATE_ITEMS: Final = 100
"""Larger ones are left out of the first pass: beside records by the million, what holds a model is mostly small."""
MAX_DEPTH: Final = 100
"""The longest path that is followed from a root."""
MAX_VISITED: Final = 3_000_000
"""Objects in one walk."""
BATCH: Final = 64
"""References that are looked at together. Few, as what led to them is asked again after each slice."""

HOST_CODE, INSTALLED, LIBRARY = range(3)
"""Whose code a module or class is: the host's own, an installed package's, the standard library's or torch's."""
_OWN: Final = frozenset({"gpumodels", "gpumodels_shared", "msgpack"})
_LIBRARIES: Final = (sys.stdlib_module_names - {"builtins"}) | _OWN | {"numpy", "torch", "torchgen", "triton"}
_INSTALLED: Final = ("site-packages", "dist-packages")

_HAS_REFERENCES: Final = 1 << 14
_IS_CLASS: Final = 1 << 31
"""Bits of a class's `__flags__`: its instances take part in garbage collection; its instances are classes."""
_flags_of: Final[Callable[[Any], int]] = type.__dict__["__flags__"].__get__
_dict_of_module: Final[Callable[[Any], dict[str, Any]]] = vars(ModuleType)["__dict__"].__get__


Wanted = tuple[Collection[type], Callable[[Iterable[Any]], None]]
"""Exact classes, and what to call with objects of these."""


@never_pickled
@dataclass(frozen=True, slots=True)
class Root:
    """Where a walk begins."""

    rank: int
    """Whose it is: HOST_CODE, INSTALLED or LIBRARY. Classes of a higher rank are not entered from here."""
    resolve: Callable[[], list[Any]]
    """Returns the objects to begin with; none if what held them is gone."""


@never_pickled
class ReachableObjects:
    """One walk."""

    def __init__(
        self,
        wanted: Iterable[Wanted],
        closed: Iterable[type] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Prepare a walk.

        Args:
            wanted: exact classes, and what to call with each object of these.
            closed: classes whose objects, and those of their subclasses, are not entered.
            clock: seconds.
        """
        # Classes are told apart by identity, since a metaclass may define `__hash__`.
        self._add_to = {id(kind): add for kinds, add in wanted for kind in kinds}
        self._closed = frozenset(map(id, closed))
        self._clock = clock
        self._seen = SeenObjects()
        """In this pass."""
        self._reported = SeenObjects()
        self._leads_on: dict[int, bool] = {}
        """By id of a class: whether its objects may refer to others."""
        self._rank = HOST_CODE
        self._most_items = MAX_ITEMS
        self.visited = 0
        """How many references were followed."""

    def walk(self, roots: Iterable[Root]) -> Iterator[None]:
        """Go through all that is reachable from the roots, first without large containers.

        Yields after each slice, holding nothing.
        """
        every_root = list(roots)
        first_roots = [root for root in every_root if root.rank < LIBRARY]
        for self._most_items, passed in ((LATE_ITEMS, first_roots), (MAX_ITEMS, every_root)):
            self._seen = SeenObjects()
            self._keep_out_of_namespaces()
            yield from self._pass(passed)

    def _pass(self, roots: Iterable[Root]) -> Iterator[None]:
        until = self._clock() + SLICE_SECONDS
        for root in roots:
            self._rank = root.rank
            # The path: on each level the objects that are still to be entered, and those of the level above that led to them.
            waiting: list[list[Any]] = [self._new_among(root.resolve())]
            entered: list[list[Any]] = [[]]
            while waiting and self.visited < MAX_VISITED:
                self._step(waiting, entered)
                if self._clock() >= until:
                    _forget_objects(waiting)
                    _forget_objects(entered)
                    yield
                    _find_again(root, waiting, entered)
                    until = self._clock() + SLICE_SECONDS

    def _step(self, waiting: list[list[Any]], entered: list[list[Any]]) -> None:
        level = waiting[-1]
        if not level:
            waiting.pop()
            entered.pop()
            return
        some: list[Any] = []
        held: list[Any] = []
        while level and len(held) < BATCH:
            some.append(level.pop())
            held += gc.get_referents(some[-1])
        below = self._new_among(held)
        if below and len(waiting) < MAX_DEPTH:
            waiting.append(below)
            entered.append(some)

    def _new_among(self, held: list[Any]) -> list[Any]:
        """Those of these objects that are to be entered and weren't yet; what is wanted of them is reported."""
        self.visited += len(held)
        kinds = list(map(id, map(type, held)))
        if not self._add_to.keys().isdisjoint(kinds):
            for one, number in zip(held, kinds, strict=True):
                if (add := self._add_to.get(number)) is not None and self._reported.add(id(one)):
                    add([one])
        leads_on = self._leads_on
        unknown = set(kinds).difference(leads_on)
        if unknown:
            leads_on.update((id(type(one)), self._may_lead_on(type(one))) for one in held if id(type(one)) in unknown)
        new: list[Any] = []
        for one in compress(held, map(leads_on.__getitem__, kinds)):
            kind = type(one)
            items = 0
            if _flags_of(kind) & _IS_CLASS:
                if _rank_of(package_of(one)) > self._rank:
                    continue  # not seen yet: it is entered from its own module
            elif (container := container_of(mro_of(kind))) is not None:
                items = _length_of(container, one)
            if items <= self._most_items and self._seen.add(id(one)):
                new.append(one)
        return new

    def _may_lead_on(self, kind: type) -> bool:
        return bool(_flags_of(kind) & _HAS_REFERENCES) and self._closed.isdisjoint(map(id, mro_of(kind)))

    def _keep_out_of_namespaces(self) -> None:
        """Functions refer to the global variables of their modules, which are roots of their own."""
        for module in list(sys.modules.values()):
            if ModuleType in mro_of(type(module)):
                self._seen.add(id(module))
                self._seen.add(id(_dict_of_module(module)))
        self._seen.add(id(sys.modules))


def roots_of_process() -> list[Root]:
    """The local variables of running functions and the global variables of all modules, the host's own first."""
    own_thread = threading.get_ident()
    frames = [(thread, id(frame)) for thread, frame in frames_of_threads(own_thread)]
    found = [Root(HOST_CODE, partial(_locals_at, *at, own_thread)) for at in frames]
    for name, module in list(sys.modules.items()):
        if type(name) is str:
            found.append(Root(_rank_of_module(name, module), partial(_globals_of, name)))
    return sorted(found, key=lambda root: root.rank)


@never_pickled
class SeenObjects:
    """A set of objects by address, at a sixteenth of the memory that they take themselves, where a set would take as much."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, address: int) -> bool:
        """Add an object; returns whether it is new."""
        granule = address >> 4  # objects begin at multiples of 16
        page = self._pages.get(granule >> 12)
        if page is None:
            page = self._pages[granule >> 12] = bytearray(4096)
        if page[granule & 4095]:
            return False
        page[granule & 4095] = 1
        return True


def _length_of(container: Any, one: Any) -> int:
    """How many items a list, dict or the like has, by the built-in type's own count."""
    length: int = container.__len__(one)
    return length


def _forget_objects(levels: list[list[Any]]) -> None:
    for position, level in enumerate(levels):
        levels[position] = list(map(id, level))


def _find_again(root: Root, waiting: list[list[Any]], entered: list[list[Any]]) -> None:
    """Replace ids by the objects, as far as these are still held by the same ones."""
    held = {id(one): one for one in root.resolve()}
    for position in range(len(waiting)):
        if position:
            held = {id(one): one for one in gc.get_referents(*entered[position])}
        waiting[position] = [held[key] for key in waiting[position] if key in held]
        if position + 1 < len(waiting):
            entered[position + 1] = [held[key] for key in entered[position + 1] if key in held]


def _locals_at(thread: int, frame_id: int, own_thread: int) -> list[Any]:
    for running_thread, frame in frames_of_threads(own_thread):
        if running_thread == thread and id(frame) == frame_id:
            return locals_of(frame)
    return []


def _globals_of(name: str) -> list[Any]:
    module = sys.modules.get(name)
    if module is None:
        return []
    return gc.get_referents(_dict_of_module(module)) if ModuleType in mro_of(type(module)) else [module]


def _rank_of_module(name: str, module: Any) -> int:
    package = name.partition(".")[0]
    if package in _LIBRARIES:
        return LIBRARY
    file = _dict_of_module(module).get("__file__") if ModuleType in mro_of(type(module)) else None
    return INSTALLED if type(file) is str and any(folder in file for folder in _INSTALLED) else HOST_CODE


def _rank_of(package: str | None) -> int:
    if package is None or package in _LIBRARIES:
        return LIBRARY
    return _rank_of_module(package, sys.modules.get(package))
