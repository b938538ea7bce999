"""What a table tells of hands on it."""

from __future__ import annotations

from collections.abc import Hashable

from textual.message import Message
from textual.widget import Widget


class TableMessage(Message):
    """From one table."""

    def __init__(self, table: Widget) -> None:
        super().__init__()
        self.table = table

    @property
    def control(self) -> Widget:
        """The table."""
        return self.table


class CursorMoved(TableMessage):
    """The cursor is on another row."""

    def __init__(self, table: Widget, key: Hashable) -> None:
        super().__init__(table)
        self.key = key


class RowOpened(TableMessage):
    """The cursor's row was asked to open: Enter, or a double click."""

    def __init__(self, table: Widget, key: Hashable) -> None:
        super().__init__(table)
        self.key = key


class HeadingClicked(TableMessage):
    """The title of a column that rows can be sorted by."""

    def __init__(self, table: Widget, column: str) -> None:
        super().__init__(table)
        self.column = column
