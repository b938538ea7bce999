"""How widgets reach the terminal that their application is drawn on, for cells that only they can know of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from textual.app import App

Write = Callable[[str], bool]
"""Draws these characters; returns whether it did, which it doesn't while the terminal shows something unknown."""

_WRITES: WeakKeyDictionary[App[Any], Write] = WeakKeyDictionary()


def offer(app: App[Any], write: Write) -> None:
    """Let the widgets of this application draw."""
    _WRITES[app] = write


def writer_of(app: App[Any]) -> Write | None:
    """How the widgets of this application draw; None if only Textual can."""
    return _WRITES.get(app)
