"""Facts about an event for its details, as labelled lines. Safe to draw."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import format_bytes
from gpumodels_tui.view.device_names import device_in_words
from gpumodels_tui.view.events import Event, EventKind
from gpumodels_tui.view.model_facts import Fact

ENDS: Final = frozenset({EventKind.OUT_OF_MEMORY, EventKind.EXITED, EventKind.DIED})
"""The kinds for which the models in memory at that time are shown."""


def facts_of_event(event: Event) -> list[Fact]:
    """The event's time, kind, model, process, device and size."""
    at = time.localtime(event.at_ns // 10**9)
    facts = [Fact("when", time.strftime("%Y-%m-%d %H:%M:%S", at))]
    often = f", {event.times}× within a minute" if event.times > 1 else ""
    facts.append(Fact("what", event.kind.value + often))
    if event.model_key is not None:
        facts.append(Fact("model", safe_text(event.name)))
    facts.append(Fact("process", safe_text(event.process)))
    if event.device:
        facts.append(Fact("device", device_in_words(safe_text(event.device, 40))))
    if event.size_bytes:
        facts.append(Fact(_size_label(event.kind), format_bytes(event.size_bytes)))
    return facts


def facts_of_held_models(held: Sequence[tuple[str, int]]) -> list[Fact]:
    """One line per model, with its bytes as the label."""
    return [Fact(format_bytes(size), safe_text(name)) for name, size in held]


def _size_label(kind: EventKind) -> str:
    if kind is EventKind.OUT_OF_MEMORY:
        return "allocator"
    return "models held" if kind in ENDS else "bytes"
