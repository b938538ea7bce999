"""Messages from the filter line to its screen, in a module of their own since the line is imported only when it is opened."""

from __future__ import annotations

from textual.message import Message


class WordsTyped(Message):
    """The filter's words have changed."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words


class TypingLeft(Message):
    """The user has left the filter line; the words are kept or cleared."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.keep = keep
