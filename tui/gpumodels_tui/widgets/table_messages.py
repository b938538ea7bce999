"""Messages that a table sends when the user moves the cursor, opens a row, or clicks a heading."""

from __future__ import annotations

from collections.abc import Hashable

from textual.message import Message
from textual.widget import Widget


class TableMessage(Message):
    """The base of all messages from a table."""

    def __init__(self, table: Widget) -> None:
        super().__init__()
        self.table = table

    @property
    def control(self) -> Widget:
        """The table that sent the message."""
        return self.table


class CursorMoved(TableMessage):
    """The cursor has moved to another row."""

    def __init__(self, table: Widget, key: Hashable) -> None:
        super().__init__(table)
        self.key = key


class RowOpened(TableMessage):
    """The user opened a row, by Enter or by clicking."""

    def __init__(self, table: Widget, key: Hashable) -> None:
        super().__init__(table)
        self.key = key


class HeadingClicked(TableMessage):
    """The user clicked the title of a sortable column."""

    def __init__(self, table: Widget, column: str) -> None:
        super().__init__(table)
        self.column = column
