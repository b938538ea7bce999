"""A line of input that accepts only printable characters, since pasted text may contain anything."""

from __future__ import annotations

from textual.widgets import Input

from gpumodels_shared.safe_text import safe_text


class PlainInput(Input):
    """Ignores control characters and others that affect a terminal or are invisible. It has no frame and doesn't blink."""

    def __init__(self, placeholder: str = "") -> None:
        super().__init__(compact=True, placeholder=placeholder)
        self.cursor_blink = False

    def replace(self, text: str, start: int, end: int) -> None:
        """Overrides `Input.replace`, which is called for both typing and pasting."""
        super().replace("".join(character for character in text if safe_text(character) == character), start, end)
