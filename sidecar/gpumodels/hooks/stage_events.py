"""The starts and ends of the host's stages, noted in its threads with the memory at that moment, for the sidecar's thread."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.accelerator_memory import AcceleratorMemory, MainAccelerator, PagedMemory
from gpumodels.support.never_pickled import never_pickled

CHANGE_BYTES: Final = 100 * 1024**2
"""If a stage changed the memory by this much, the models are scanned once it ends."""
MAX_EVENTS: Final = 4096
NO_VERSION: Final = -2
"""A `contents_version` that no scan ever saw."""


@never_pickled
class Moment(NamedTuple):
    """The start or the end of a stage."""

    at_ns: int
    """Realtime nanoseconds."""
    memory: AcceleratorMemory | None
    """None where the process uses no accelerator."""
    contents_version: int
    """`ModuleRegistry.contents_version`: which models there were."""


@never_pickled
class StageStarted(NamedTuple):
    """A stage begins."""

    number: int
    """Tells runs apart."""
    id: str
    """The host's own: a node's id in its workflow."""
    name: str
    """For people: a node's type."""
    named: tuple[str, ...]
    """Values of its inputs that may name model files."""
    moment: Moment


@never_pickled
class StageEnded(NamedTuple):
    """A stage is over, or has failed."""

    number: int
    moment: Moment


@never_pickled
class StageEvents:
    """The queue of what happened, and which stages run.

    Args:
        registry: is asked for a scan.
    """

    def __init__(self, registry: ModuleRegistry) -> None:
        self._registry = registry
        self._accelerator: MainAccelerator | None = None
        self._paged_memory: Callable[[str], PagedMemory | None] = lambda _: None
        self._numbers = itertools.count(1)
        self._events: deque[StageStarted | StageEnded] = deque(maxlen=MAX_EVENTS)
        self._running: dict[int, AcceleratorMemory | None] = {}
        """By number, the memory when it began."""
        self.nodes_by_thread: dict[int, tuple[int, str]] = {}
        """By thread, the number and the id of the node that runs in it: what the host's stages inside the node belong to."""

    def measure(self, accelerator: MainAccelerator, paged_memory: Callable[[str], PagedMemory | None]) -> None:
        """Read memory from now on.

        Args:
            accelerator: whose memory is read.
            paged_memory: what dynamic VRAM holds on a device beside torch's allocator; None where it isn't used.
        """
        self._accelerator, self._paged_memory = accelerator, paged_memory

    def begin(self, id: str, name: str, named: tuple[str, ...] = ()) -> int:
        """Note that a stage begins, and return the number to end it by."""
        number, moment = next(self._numbers), self._now()
        self._running[number] = moment.memory
        self._events.append(StageStarted(number, id, name, named, moment))
        return number

    def adopt(self, id: str, name: str, started_ns: int) -> int:
        """Note a stage that began before anybody was there to note it: what was in memory then isn't known."""
        number = next(self._numbers)
        self._running[number] = None
        self._events.append(StageStarted(number, id, name, (), Moment(started_ns, self._unmeasured(), NO_VERSION)))
        return number

    def end(self, number: int) -> None:
        """Note that a stage is over; nothing if it was over before."""
        if number not in self._running:
            return
        moment = self._now()
        self._events.append(StageEnded(number, moment))  # first: a stage that doesn't run has its end in the queue, or lost it
        memory = self._running.pop(number, None)
        before = memory.allocated_bytes if memory is not None else 0
        after = moment.memory.allocated_bytes if moment.memory is not None else 0
        if before is not None and after is not None and abs(after - before) > CHANGE_BYTES:
            self._registry.request_scan()

    def running_now(self) -> set[int]:
        """The numbers of the stages that began and aren't over."""
        return set(self._running)

    def take(self) -> list[StageStarted | StageEnded]:
        """The starts and ends since the last call, in their order. For the sidecar's thread."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def _unmeasured(self) -> AcceleratorMemory | None:
        memory = self._now().memory
        return None if memory is None else AcceleratorMemory(memory.device)

    def _now(self) -> Moment:
        memory = self._accelerator.read() if self._accelerator is not None else None
        paged = self._paged_memory(memory.device) if memory is not None else None
        if memory is not None and paged is not None:  # of pages, nobody counts the peak
            allocated, in_pages = memory.allocated_bytes, paged.size_bytes
            held = allocated + in_pages if allocated is not None and in_pages is not None else None
            memory = AcceleratorMemory(memory.device, held)
        return Moment(time.time_ns(), memory, self._registry.contents_version)
