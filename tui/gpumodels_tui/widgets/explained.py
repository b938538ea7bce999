"""What the marks and the short titles on the screens stand for, for the help."""

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
"""A title, and what stands under it."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Some marks, each with its role, and what they mean."""

    marks: tuple[tuple[str, str], ...]
    words: str


def _title(title: str, words: str) -> Explained:
    return Explained(((title, HEADING),), words)


def _part(kind: PartKind, words: str) -> Explained:
    mark, role, _ = MARKS[kind]
    return Explained(((mark, role),), words)


BARS: Final = (
    Explained(tuple(MARKS[kind][:2] for kind in OF_MODELS), "Models: the three largest, and all others; marked so in the list"),
    _part(PartKind.GRADIENTS, "Gradients"),
    _part(PartKind.OPTIMIZER, "Optimizer state"),
    _part(PartKind.CACHES, "Caches: keys and values of attention"),
    _part(PartKind.OTHER, "Other tensors: activations, what no model holds"),
    _part(PartKind.ALLOCATOR_CACHE, "Kept by torch's allocator for later"),
    _part(PartKind.OUTSIDE, "Outside torch: the driver, other programs"),
    Explained(((FREE, TRACK),), "Free"),
)
TITLES: Final = (
    _title("on dev", "Bytes on this device"),
    _title("off dev", "The rest of it: in host memory, on disk, or not loaded"),
    _title("% share", "Of the device's memory"),
    _title("lay", "Layers: modules that hold memory"),
    Explained((("bf16+", ""),), "Most bytes are bf16, some are of another type"),
    Explained((("name?", ""),), "A guess; open it for what speaks for it"),
)
MODELS: Final = (("Titles", TITLES), ("Marks", BARS))
"""Of a list of models: what stands above the marks, and the marks."""

_OF_LAYERS: Final = (
    _title("on dev", "Bytes on the device that it was opened from"),
    _title("off dev", "Bytes elsewhere, or in no memory"),
    _title("of parent", "Share of what the layer above it holds"),
    _title("gpu", "Where it is: GPUs by number, host, or none (on disk, not loaded)"),
    Explained((("+ shared", WARNING),), "Bytes that are counted with another layer or model"),
    Explained((("bf16+", MUTED),), "Most bytes are bf16, some are of another type"),
)
_HAPPENED: Final = {
    EventKind.MOVED_ON: "Onto the device, from host memory or disk",
    EventKind.MOVED_OFF: "Off the device, to host memory or disk",
    EventKind.GREW: "It holds more than before",
    EventKind.OUT_OF_MEMORY: "torch's allocator gave up; Enter lists what was there",
    EventKind.EXITED: "The process ended in order",
    EventKind.DIED: "It ended without a word: killed, or crashed",
}
LAYERS: Final = (("Titles", _OF_LAYERS),)

_OF_EVENTS: Final = (
    *(Explained(((f"{SIGNS[kind][0]} {kind.value}", SIGNS[kind][1]),), words) for kind, words in _HAPPENED.items()),
    Explained((("3×", OFF),), "So often within a minute"),
    Explained(((NOTHING, TRACK),), "In the graph: nobody looked then"),
    Explained(((RAN_OUT, WARNING),), "In the graph: memory ran out"),
)
EVENTS: Final = (("Marks", _OF_EVENTS),)
