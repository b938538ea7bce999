"""Explanations of the screens' marks and short titles, for the help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gpumodels_tui.theme import HEADING, MUTED, OFF, TRACK, WARNING
from gpumodels_tui.view.events import EventKind
from gpumodels_tui.view.memory_parts import OF_MODELS, PartKind
from gpumodels_tui.widgets.event_table import SIGNS
from gpumodels_tui.widgets.memory_bar import FREE, MARKS
from gpumodels_tui.widgets.memory_graph import NOTHING, RAN_OUT

Group = tuple[str, Sequence["Explained"]]
"""A title, and the explanations below it."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Some marks with their roles, and their meaning."""

    marks: tuple[tuple[str, str], ...]
    words: str


def _title(title: str, words: str) -> Explained:
    return Explained(((title, HEADING),), words)


def _part(kind: PartKind, words: str) -> Explained:
    mark, role, _ = MARKS[kind]
    return Explained(((mark, role),), words)


BARS: Final = (
    Explained(tuple(MARKS[kind][:2] for kind in OF_MODELS), "Models: the three largest, and all others; same marks in the list"),
    _part(PartKind.GRADIENTS, "Gradients"),
    _part(PartKind.OPTIMIZER, "Optimizer state"),
    _part(PartKind.CACHES, "KV caches: keys and values of attention"),
    _part(PartKind.OTHER, "Other tensors, such as activations"),
    _part(PartKind.ALLOCATOR_CACHE, "Cached by torch's allocator for reuse"),
    _part(PartKind.OUTSIDE, "Outside torch: the driver, other programs"),
    Explained(((FREE, TRACK),), "Free"),
)
TITLES: Final = (
    _title("on dev", "Bytes on this device"),
    _title("off dev", "Other bytes: in host memory, on disk, or not loaded"),
    _title("% share", "Share of the device's memory"),
    _title("lay", "Layers: modules that hold memory"),
    Explained((("bf16+", ""),), "Mostly bf16, with some bytes of other types"),
    Explained((("name?", ""),), "The name is a guess; open the model to see why"),
)
MODELS: Final = (("Titles", TITLES), ("Marks", BARS))
"""For a list of models: its titles, and the marks of its bars."""

_OF_LAYERS: Final = (
    _title("on dev", "Bytes on the device whose list it was opened from"),
    _title("off dev", "Bytes elsewhere, or in no memory"),
    _title("of parent", "Share of the parent layer's bytes"),
    _title("gpu", "Devices: GPU numbers, host, or none (on disk, not loaded)"),
    Explained((("+ shared", WARNING),), "Bytes that are counted at another layer or model"),
    Explained((("bf16+", MUTED),), "Mostly bf16, with some bytes of other types"),
)
_EVENT_KINDS: Final = {
    EventKind.MOVED_ON: "From host memory or disk",
    EventKind.MOVED_OFF: "To host memory or disk",
    EventKind.GREW: "The model has more bytes than before",
    EventKind.OUT_OF_MEMORY: "An allocation failed; Enter lists the models in memory",
    EventKind.EXITED: "The process exited normally",
    EventKind.DIED: "The process was killed, or crashed",
}
LAYERS: Final = (("Titles", _OF_LAYERS),)

_OF_EVENTS: Final = (
    *(Explained(((f"{SIGNS[kind][0]} {kind.value}", SIGNS[kind][1]),), words) for kind, words in _EVENT_KINDS.items()),
    Explained((("3×", OFF),), "Number of times within a minute"),
    Explained(((NOTHING, TRACK),), "In the graph: no data"),
    Explained(((RAN_OUT, WARNING),), "In the graph: out of memory"),
)
EVENTS: Final = (("Marks", _OF_EVENTS),)
