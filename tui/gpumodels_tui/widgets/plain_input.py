"""A line to type in that holds only what draws itself: what is pasted may come from anywhere."""

from __future__ import annotations

from textual.widgets import Input

from gpumodels_shared.safe_text import safe_text


class PlainInput(Input):
    """Controls and what else would steer a terminal or hide are left out of what comes in. No frame, no blinking."""

    def __init__(self, placeholder: str = "") -> None:
        super().__init__(compact=True, placeholder=placeholder)
        self.cursor_blink = False

    def replace(self, text: str, start: int, end: int) -> None:
        """As `Input` has it: typing and pasting end here."""
        super().replace("".join(character for character in text if safe_text(character) == character), start, end)
