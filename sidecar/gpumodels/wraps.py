"""Wrapping a torch function once, transparently, and taking the wrap off again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


class Wraps:
    """The functions wrapped so far. Each wrapper has the original's name, signature and docstring, and `__wrapped__`."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def wrap(self, owner: Any, name: str, around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Replace `owner.name` by `around(original)`; a static method stays one, an inherited one is put on `owner`."""
        stored = inspect.getattr_static(owner, name)
        original = getattr(owner, name)
        wrapper = functools.wraps(original)(around(original))
        # A C method found on a class can't be told from a function by calling it: only a Python function binds itself.
        is_static = isinstance(owner, type) and not inspect.isfunction(stored)
        placed: Any = staticmethod(wrapper) if is_static else wrapper
        own = name in vars(owner)
        setattr(owner, name, placed)

        def undo() -> None:
            if vars(owner).get(name) is not placed:
                return  # somebody wrapped the wrapper: taking ours out would take theirs too
            if own:
                setattr(owner, name, stored)
            else:
                delattr(owner, name)

        self._undo.append(undo)

    def unwrap_all(self) -> None:
        """Put the originals back, the newest wrap first."""
        while self._undo:
            self._undo.pop()()


def all_subclasses(root: type) -> set[type]:
    """The class and all below it, without running a metaclass's own `__subclasses__`."""
    found = {root}
    waiting = [root]
    while waiting:
        below: list[type] = type.__subclasses__(waiting.pop())
        for subclass in below:
            if subclass not in found:
                found.add(subclass)
                waiting.append(subclass)
    return found
