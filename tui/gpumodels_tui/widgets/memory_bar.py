"""A device's memory as a bar of its parts, and the legend of the bar. Parts differ in their marks, not only in colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from rich.text import Text

from gpumodels_shared.records import Record, replace
from gpumodels_shared.units import format_bytes
from gpumodels_tui.theme import CACHES, FIRST, MUTED, OTHERS, REST, SECOND, STYLES, THIRD, TRACK, TRAINING
from gpumodels_tui.view.memory_parts import OF_MODELS, MemoryPart, PartKind
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
"""For each part: its mark, which is one column wide, its role, and its name in the legend."""

FREE: Final = "─"
FREE_WORD: Final = "free"


def memory_bar(parts: Sequence[MemoryPart], total_bytes: int | None, width: int) -> Cell:
    """A bar of `width` columns with the parts of `total_bytes`, then a thin line; blank if the total isn't known."""
    if not total_bytes or width <= 0:
        return BLANK
    total = max(total_bytes, sum(part.size_bytes for part in parts))
    pieces: list[tuple[str, str]] = []
    summed = drawn = 0
    for part in parts:
        summed += part.size_bytes
        end = max(round(summed / total * width), 1)  # even the smallest use is visible
        if end > drawn:
            mark, role, _ = MARKS[part.kind]
            pieces.append((mark * (end - drawn), role))
            drawn = end
    return (*pieces, *text(FREE * (width - drawn), TRACK))


def mark_of(parts: Sequence[MemoryPart], key: str) -> Cell:
    """The mark of the model with this key in the bar of these parts."""
    kind = next((part.kind for part in parts if part.key == key), PartKind.MODELS)
    mark, role, _ = MARKS[kind]
    return text(mark, role)


def legend(parts: Sequence[MemoryPart], total_bytes: int | None, width: int, outside: str = "outside torch") -> Text:
    """`█▓▒░ models 22 GB  : allocator 512 MB  ─ free 57 GB`: all models together, then the other parts, the largest first.

    If not everything fits, free memory is left out first, then the sizes of small parts.
    """
    held = [part for part in parts if part.kind in OF_MODELS]
    pieces: list[_LegendEntry] = []
    if held:
        models = format_bytes(sum(part.size_bytes for part in held))
        pieces.append(_LegendEntry(tuple(MARKS[part.kind][:2] for part in held), "models", models))
    for part in sorted((part for part in parts if part.kind not in OF_MODELS), key=lambda part: -part.size_bytes):
        mark, role, words = MARKS[part.kind]
        words = outside if part.kind is PartKind.OUTSIDE else words
        pieces.append(_LegendEntry(((mark, role),), words, calm_bytes(part.size_bytes)))
    if total_bytes:
        free = max(0, total_bytes - sum(part.size_bytes for part in parts))
        pieces.append(_LegendEntry(((FREE, TRACK),), FREE_WORD, calm_bytes(free)))
    return _legend_text(tuple(_fitting(pieces, width)), STYLES.theme.theme.name)


@lru_cache(maxsize=16)
def _legend_text(pieces: tuple[_LegendEntry, ...], theme: str) -> Text:
    """The entries as text, in the styles of this theme, which is the one in use. What is seldom another text is made seldom."""
    line = Text("  ").join(
        Text.assemble(*((mark, STYLES[role]) for mark, role in piece.marks), (piece.text, STYLES[MUTED])) for piece in pieces
    )
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


class _LegendEntry(Record):
    """One entry of a legend."""

    marks: tuple[tuple[str, str], ...]
    words: str
    size: str

    @property
    def text(self) -> str:
        return f" {self.words} {self.size}".rstrip()


def _fitting(pieces: Sequence[_LegendEntry], width: int) -> list[_LegendEntry]:
    """As many entries as fit, and as many of their sizes as fit then; free memory only if everything fits."""
    if pieces and _length(pieces) > width and pieces[-1].words == FREE_WORD:
        pieces = pieces[:-1]
    bare = [*pieces[:1], *(replace(piece, size="") for piece in pieces[1:])]
    shown = next((bare[:count] for count in range(len(bare), 0, -1) if _length(bare[:count]) <= width), bare[:1])
    for position in range(1, len(shown)):
        if _length([*shown[:position], pieces[position], *shown[position + 1 :]]) <= width:
            shown[position] = pieces[position]
    return shown


def _length(pieces: Sequence[_LegendEntry]) -> int:
    return sum(len(piece.marks) + len(piece.text) + 2 for piece in pieces) - 2
