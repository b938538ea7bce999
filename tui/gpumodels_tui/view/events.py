"""Data types for the history: events of models and processes, and samples of the memory used."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from gpumodels_shared.records import Record, field


class EventKind(Enum):
    """The kinds of events; the values are shown on screen."""

    STARTED = "started"
    LOADED = "loaded"
    MOVED_ON = "moved to GPU"
    MOVED_OFF = "offloaded"
    GREW = "grew"
    SHRANK = "shrank"
    UNLOADED = "unloaded"
    RENAMED = "renamed"
    STALLED = "stalled"
    RESUMED = "live again"
    OUT_OF_MEMORY = "out of memory"
    EXITED = "exited"
    DIED = "died"


class Event(Record):
    """An event of one model or process."""

    number: int
    """Increases from event to event."""
    at_ns: int
    kind: EventKind
    name: str
    """The name of the model, or of the process if the event isn't about a model. Safe to draw."""
    process: str
    device: str = ""
    """The device's label, which devices of several processes may share."""
    size_bytes: int = 0
    """The change in bytes; for a process's end, its models' bytes; for out of memory, the allocator's reserved bytes."""
    model_key: str | None = None
    times: int = 1
    process_key: str | None = None
    held: tuple[tuple[str, int], ...] = ()
    """Names and bytes of models, largest first: those on the device for out of memory, its own for a process's end."""
    device_key: str | None = None
    """The device's key (`DeviceRow.key`); None if there is no device, or nothing but its label is known."""
    previous_name: str = ""
    """What a renamed model was called before."""

    def is_on(self, key: str, label: str) -> bool:
        """Whether it happened on the device of this key and label."""
        return self.device == label if self.device_key is None else self.device_key == key


class History(Record):
    """The recorded events, and the memory used over time."""

    events: tuple[Event, ...] = ()
    """Newest first."""
    samples: Mapping[str, tuple[tuple[int, int | None], ...]] = field(default_factory=dict)
    """By device key: (seconds since the epoch, most bytes used since the previous sample), oldest first; None from where on they
    are unknown."""
