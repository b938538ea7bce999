"""What the filter's line tells its screen. Apart from the line, which is loaded when it is first asked for."""

from __future__ import annotations

from textual.message import Message


class WordsTyped(Message):
    """Other words than before."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words


class TypingLeft(Message):
    """Typing is over; the words are kept or dropped."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.keep = keep
