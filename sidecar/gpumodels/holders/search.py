"""Searches for the shortest chains of references that keep an object in memory, from the object back to what begins them.

`gc.get_referrers` is asked level by level. It holds the interpreter while it goes through all objects of the collector, so
it is asked for few objects at a time, and the host runs between two questions. What it doesn't know is found otherwise: the local
variables of running functions in their frames, and references from C code by counting. Nothing of the host is kept afterwards.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType, ModuleType
from typing import Any, Final

from gpumodels.holders.descriptions import Step, described_path, is_noise
from gpumodels.holders.starts import Starts
from gpumodels.support.instances import mro_of
from gpumodels.support.last_references import give_back
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.tracked_objects import referrers_of

MAX_SECONDS: Final = 2.0
MAX_DEPTH: Final = 40
MAX_CHAINS: Final = 8
MAX_VISITED: Final = 2_000
ASKED_TOGETHER: Final = 8
"""Objects of one question: each reference in the process is compared with all of them."""
OWN_FROZEN: Final = 1_000
"""Python 3.12 begins with some hundred objects frozen, none of which holds a model."""
SECONDS_AT_LEAST: Final = 0.02
"""What is held in a process with few objects, as measured: 22 to 25 ms with 7 ms' worth of them."""
SECONDS_PER_BLOCK: Final = 12e-9
"""By which the time of a question is expected, per allocated block of memory; measured with three million objects."""


@never_pickled
@dataclass(frozen=True, slots=True)
class Chain:
    """Why an object is in memory: steps from what begins the chain to the object."""

    steps: tuple[Step, ...]

    @property
    def text(self) -> str:
        """For people, in one line: `global pipe in __main__ (app.py) → .unet`."""
        words = ""
        is_path = False
        for step in self.steps:
            goes_on = step.kind in ("attribute", "item") and step.text[:1] in (".", "[")
            words += f" → {step.text}" if goes_on and not is_path and words else step.text
            is_path = goes_on
        return words


@never_pickled
@dataclass(slots=True)
class Findings:
    """What a search found out. Plain data: nothing of the host."""

    chains: tuple[Chain, ...] = ()
    """The shortest ones first."""
    is_garbage: bool = False
    """Nothing but a reference cycle of its own holds it."""
    by_c_code: tuple[str, ...] = ()
    """What has references that no Python object accounts for."""
    hidden_objects: int = 0
    """How many objects `gc.freeze()` has hidden: any of them may hold it."""
    is_complete: bool = True
    """Whether the search ended by itself, not for its limits."""
    visited: int = 0
    longest_hold_seconds: float = 0.0
    """For how long the interpreter was held at once, at most."""
    seconds: float = 0.0


def expected_hold_seconds() -> float:
    """For how long a question will hold the interpreter, about."""
    return SECONDS_AT_LEAST + sys.getallocatedblocks() * SECONDS_PER_BLOCK


@never_pickled
@dataclass(slots=True)
class _Node:
    """An object on the way, and the one that it leads to."""

    held: Any
    towards: int | None
    """The id of the object that it refers to; None for the object that was asked for."""
    depth: int


@never_pickled
class HolderSearch:
    """One search.

    Args:
        target: a weak reference to the object.
        pause: called between two questions; lets the host run, and may raise to end the search.
        clock: seconds.
        most_seconds: how long it may take.
    """

    def __init__(
        self,
        target: Callable[[], Any],
        pause: Callable[[], None],
        clock: Callable[[], float] = time.perf_counter,
        most_seconds: float = MAX_SECONDS,
    ) -> None:
        self._most_seconds = most_seconds
        self._pause = pause
        self._clock = clock
        self._target = target
        self._nodes: dict[int, _Node] = {}
        hidden = gc.get_freeze_count()
        self._findings = Findings(hidden_objects=hidden if hidden > OWN_FROZEN else 0)
        self._chains: list[Chain] = []
        self._references: dict[int, int] = {}
        """How many references to each object come from objects that were found."""

    def run(self) -> Findings:
        """Search; whatever happens, nothing of the host is held afterwards."""
        began = self._clock()
        try:
            self._search(began)
        finally:
            self._findings.seconds = self._clock() - began
            self._findings.visited = len(self._nodes)
            last = [self._nodes.pop(key).held for key in [*self._nodes][:1]]
            self._nodes.clear()
            give_back(last)
        self._findings.chains = tuple(self._chains)
        return self._findings

    def _search(self, began: float) -> None:
        starts = Starts()
        self._pause()
        node = _Node(self._target(), None, 0)
        if node.held is None:
            return
        self._nodes[id(node.held)] = node
        del node
        level = list(self._nodes)
        self._find_running(level, starts)
        while level:
            following: list[int] = []
            for position in range(0, len(level), ASKED_TOGETHER):
                if self._is_over(began):
                    self._findings.is_complete = False
                    return
                following += self._ask(level[position : position + ASKED_TOGETHER], starts)
                self._pause()
            if following and self._nodes[following[0]].depth >= MAX_DEPTH:
                self._findings.is_complete = False
                return
            self._find_running(following, starts)
            level = following
        if not self._chains:
            self._count_what_is_left()

    def _is_over(self, began: float) -> bool:
        enough = len(self._chains) >= MAX_CHAINS or len(self._nodes) >= MAX_VISITED
        return enough or self._clock() - began > self._most_seconds

    def _ask(self, keys: list[int], starts: Starts) -> list[int]:
        """Ask who refers to these; the chains that end here are noted, and the ids of the others are returned."""
        nodes = self._nodes
        asked = tuple([nodes[key].held for key in keys])  # passed on as it is, so that it is known for ours
        own = {id(asked), id(nodes)}
        own.update(map(id, nodes.values()))
        before = self._clock()
        found = referrers_of(asked)
        self._findings.longest_hold_seconds = max(self._findings.longest_hold_seconds, self._clock() - before)
        own.add(id(found))
        wanted = set(keys)
        new: list[int] = []
        for one in found:
            if id(one) in own or _is_ours(one):
                continue
            towards = [id(held) for held in gc.get_referents(one) if id(held) in wanted]
            for key in towards:
                self._references[key] = self._references.get(key, 0) + 1
            if not towards or id(one) in nodes or is_noise(one, nodes[towards[0]].held):
                continue
            path = self._path(towards[0])
            start = starts.of(one, path)
            if start is not None:
                step, said = start
                self._note(step, path[max(0, said - 1) :] if said else [one, *path])
            elif ModuleType not in mro_of(type(one)):
                nodes[id(one)] = _Node(one, towards[0], nodes[towards[0]].depth + 1)
                new.append(id(one))
        del found, asked
        return new

    def _find_running(self, keys: list[int], starts: Starts) -> None:
        """Note the chains that begin with a local variable of a running function."""
        for key in keys:
            for start in starts.running(key):
                self._note(start, self._path(key))

    def _path(self, key: int | None) -> list[Any]:
        """The objects from this one to the target."""
        path: list[Any] = []
        while key is not None:
            node = self._nodes[key]
            path.append(node.held)
            key = node.towards
        return path

    def _note(self, start: Step, path: list[Any]) -> None:
        """Note the chain that goes on from this start along the path."""
        chain = Chain((start, *described_path(path)))
        if len(self._chains) < MAX_CHAINS and chain not in self._chains:
            self._chains.append(chain)

    def _count_what_is_left(self) -> None:
        """Without a chain: a cycle of its own, or C code that doesn't tell what it holds."""
        ours = 2  # the node, and the argument of `getrefcount`
        held = [
            f"{type(node.held).__name__}: {more}"
            for key, node in self._nodes.items()
            if (more := sys.getrefcount(node.held) - ours - self._references.get(key, 0)) > 0
        ]
        self._findings.by_c_code = tuple(held)
        self._findings.is_garbage = not held and not self._findings.hidden_objects


def _is_ours(one: Any) -> bool:
    kind = type(one)
    if kind is FrameType:
        code: CodeType = one.f_code
        return "gpumodels" in code.co_filename and one.f_globals.get("__package__", "").partition(".")[0] == "gpumodels"
    return kind is _Node or kind is HolderSearch
