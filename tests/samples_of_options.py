"""For each kind of value: texts that stand for different values, and texts that stand for none."""

from __future__ import annotations

from gpumodels_tui.settings import kinds
from gpumodels_tui.settings.kinds import Kind
from gpumodels_tui.settings.option import Option


def good(option: Option) -> list[str]:
    """Five texts that stand for different values, as far as there are so many; none for the default."""
    kind = option.kind
    if kind.choices:
        texts = list(kind.choices)
    elif kind is kinds.SIZE:
        texts = ["1MB", "2MB", "3 GB", "4", "0.5k"]
    elif kind.metavar in ("N", "SECONDS"):
        texts = ["11", "12", "13", "14", "15"]
    else:
        texts = ["one", "two", "three", "four", "five"]
    return [text for text in texts if kind.read(text) != option.default]


def bad(kind: Kind) -> str | None:
    """A text that stands for no value of this kind; None if there is none."""
    return "nonsense" if kind.choices or kind is kinds.SIZE or kind.metavar in ("N", "SECONDS") else None
