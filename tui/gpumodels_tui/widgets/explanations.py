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

Group = tuple[str, Sequence["Explanation"]]
"""A title, and the explanations below it."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Some marks with their roles, and their meaning."""

    marks: tuple[tuple[str, str], ...]
    words: str


def _title(title: str, words: str) -> Explanation:
    return Explanation(((title, HEADING),), words)


def _part(kind: PartKind, words: str) -> Explanation:
    mark, role, _ = MARKS[kind]
    return Explanation(((mark, role),), words)


BARS: Final = (
    Explanation(
        tuple(MARKS[kind][:2] for kind in OF_MODELS), "Models: the three largest, and all others; same marks in the list"
    ),
    _part(PartKind.GRADIENTS, "Gradients"),
    _part(PartKind.OPTIMIZER, "Optimizer state"),
    _part(PartKind.CACHES, "KV caches: keys and values of attention"),
    _part(PartKind.OTHER, "Other tensors, such as activations"),
    _part(PartKind.ALLOCATOR_CACHE, "Cached by torch's allocator for reuse"),
    _part(PartKind.OUTSIDE, "Outside torch: the driver, other programs"),
    Explanation(((FREE, TRACK),), "Free"),
)
TITLES: Final = (
    _title("on dev", "Bytes on this device"),
    _title("off dev", "Other bytes: in host memory, on disk, or not loaded"),
    _title("% share", "Share of the device's memory"),
    Explanation((("(4 ranks, +14 %)", WARNING),), "Held by ranks of one job, the fullest 14 % more than the emptiest"),
    _title("lay", "Layers: modules that hold memory"),
    _title("idle", "The model has certainly not run for so long"),
    Explanation((("bf16+", ""),), "Mostly bf16, with some bytes of other types"),
    Explanation((("name?", ""),), "The name is a guess; open the model to see why"),
    Explanation((("(5s old)", WARNING),), "No sign of life from the process for so long"),
    Explanation((("(stalled)", WARNING),), "None for ten of its intervals: stopped, or blocked"),
    Explanation((("lost", WARNING),), "The driver can't reach the GPU; see the warnings"),
)
MODELS: Final = (("Titles", TITLES), ("Marks", BARS))
"""For a list of models: its titles, and the marks of its bars."""

_OF_LAYERS: Final = (
    _title("on dev", "Bytes on the device whose list it was opened from"),
    _title("off dev", "Bytes elsewhere, or in no memory"),
    _title("of parent", "Share of the parent layer's bytes"),
    _title("gpu", "Devices: GPU numbers, host, or none (on disk, not loaded)"),
    Explanation((("+ shared", WARNING),), "Bytes that are counted at another layer or model"),
    Explanation((("bf16+", MUTED),), "Mostly bf16, with some bytes of other types"),
)
_EVENT_KINDS: Final = {
    EventKind.MOVED_ON: "From host memory or disk",
    EventKind.MOVED_OFF: "To host memory or disk",
    EventKind.GREW: "The model has more bytes than before",
    EventKind.OUT_OF_MEMORY: "An allocation failed; Enter lists the models in memory",
    EventKind.STALLED: "The process gives no sign of life",
    EventKind.EXITED: "The process exited normally",
    EventKind.DIED: "The process was killed, or crashed",
}
LAYERS: Final = (("Titles", _OF_LAYERS),)

_OF_EVENTS: Final = (
    *(Explanation(((f"{SIGNS[kind][0]} {kind.value}", SIGNS[kind][1]),), words) for kind, words in _EVENT_KINDS.items()),
    Explanation((("3×", OFF),), "Number of times within a minute"),
    Explanation(((NOTHING, TRACK),), "In the graph: no data"),
    Explanation(((RAN_OUT, WARNING),), "In the graph: out of memory"),
)
EVENTS: Final = (("Marks", _OF_EVENTS),)
