"""What happened to models and processes, and what memory was used, as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    pass


class EventKind(Enum):
    """What happened; the values are how it is said."""

    STARTED = "started"
    LOADED = "loaded"
    MOVED_ON = "moved on"
    MOVED_OFF = "moved off"
    GREW = "grew"
    SHRANK = "shrank"
    UNLOADED = "unloaded"
    OUT_OF_MEMORY = "out of memory"
    EXITED = "exited"
    DIED = "died"


class Event(Struct, frozen=True):
    """One thing that happened to a model or a process."""

    number: int
    """Later ones have larger numbers."""
    at_ns: int
    kind: EventKind
    name: str
    """The model's, or the process's where it is about that. Safe to draw."""
    process: str
    device: str = ""
    """The device's label."""
    size_bytes: int = 0
    """By how much; of a process, what its models held, or what its allocator did when it ran out."""
    model_key: str | None = None
    times: int = 1
    process_key: str | None = None
    held: tuple[tuple[str, int], ...] = ()
    """Where memory ran out, the models on that device; of a process's end, its own: name and bytes, largest first."""


class History(Struct, frozen=True):
    """All that is remembered."""

    events: tuple[Event, ...] = ()
    """Newest first."""
    samples: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    """By device key: (seconds since the epoch, the most bytes used since the sample before), oldest first."""
