"""A device's memory as a bar of its parts, and the words that say which mark is what. The marks alone tell the parts apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.text import Text

from gpumodels_shared.units import format_bytes
from gpumodels_tui.memory_parts import OF_MODELS, MemoryPart, PartKind
from gpumodels_tui.theme import CACHES, FIRST, MUTED, OTHERS, REST, SECOND, STYLES, THIRD, TRACK, TRAINING
from gpumodels_tui.widgets.cells import BLANK, Cell, text
from gpumodels_tui.widgets.quantities import calm_bytes

MARKS: Final[Mapping[PartKind, tuple[str, str, str]]] = {
    PartKind.FIRST_MODEL: ("█", FIRST, ""),
    PartKind.SECOND_MODEL: ("▓", SECOND, ""),
    PartKind.THIRD_MODEL: ("▒", THIRD, ""),
    PartKind.MODELS: ("░", OTHERS, ""),
    PartKind.GRADIENTS: ("^", TRAINING, "gradients"),
    PartKind.OPTIMIZER: ("%", TRAINING, "optimizer"),
    PartKind.CACHES: ("≡", CACHES, "caches"),
    PartKind.OTHER: ("·", REST, "other"),
    PartKind.ALLOCATOR_CACHE: (":", REST, "allocator"),
    PartKind.OUTSIDE: ("/", REST, "outside torch"),
}
"""Per part: one column wide, its role, and its words in a legend."""

FREE: Final = "─"


def memory_bar(parts: Sequence[MemoryPart], total_bytes: int | None, width: int) -> Cell:
    """The parts of `total_bytes` side by side in `width` columns, the rest as a thin line; blank where the total is unknown."""
    if not total_bytes or width <= 0:
        return BLANK
    total = max(total_bytes, sum(part.size_bytes for part in parts))
    pieces: list[tuple[str, str]] = []
    summed = drawn = 0
    for part in parts:
        summed += part.size_bytes
        end = max(round(summed / total * width), 1)  # what is used at all is seen
        if end > drawn:
            mark, role, _ = MARKS[part.kind]
            pieces.append((mark * (end - drawn), role))
            drawn = end
    return (*pieces, *text(FREE * (width - drawn), TRACK))


def mark_of(parts: Sequence[MemoryPart], key: str) -> Cell:
    """The mark by which the model of this key is found in the bar of these parts."""
    kind = next((part.kind for part in parts if part.key == key), PartKind.MODELS)
    mark, role, _ = MARKS[kind]
    return text(mark, role)


def legend(parts: Sequence[MemoryPart], total_bytes: int | None, width: int, outside: str = "outside torch") -> Text:
    """`█▓▒░ models 22 GB  : allocator 512 MB  ─ free 57 GB`: the models in one, then the rest, largest first, as it fits."""
    held = [part for part in parts if part.kind in OF_MODELS]
    pieces: list[list[tuple[str, str]]] = []
    if held:
        marks = [MARKS[part.kind][:2] for part in held]
        pieces.append([*marks, (f" models {format_bytes(sum(part.size_bytes for part in held))}", MUTED)])
    for part in sorted((part for part in parts if part.kind not in OF_MODELS), key=lambda part: -part.size_bytes):
        mark, role, words = MARKS[part.kind]
        words = outside if part.kind is PartKind.OUTSIDE else words
        pieces.append([(mark, role), (f" {words} {calm_bytes(part.size_bytes)}", MUTED)])
    if total_bytes:
        free = max(0, total_bytes - sum(part.size_bytes for part in parts))
        pieces.append([(FREE, TRACK), (f" free {calm_bytes(free)}", MUTED)])
    line = Text(no_wrap=True, overflow="ellipsis")
    for piece in pieces:
        if len(line) + sum(len(words) for words, _ in piece) <= width:
            for words, role in piece:
                line.append(words, STYLES[role])
            line.append("  ")
    line.rstrip()
    return line
