"""Paths by directory: those below one are found without going through all the others."""

from __future__ import annotations

from collections.abc import Iterator


class NameTree:
    """A set of absolute paths. What `below` costs depends on what it finds, not on how many paths there are."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        """By directory, the paths right in it."""
        self._directories: dict[str, set[str]] = {}
        """By directory, the directories right in it that have paths below them."""

    def add(self, path: str) -> None:
        """One more; the same again changes nothing."""
        directory = _parent(path)
        known = self._names.get(directory)
        if known is not None:
            known.add(path)
            return
        self._names[directory] = {path}
        while directory:
            parent = _parent(directory)
            siblings = self._directories.get(parent)
            if siblings is not None:
                siblings.add(directory)
                return
            self._directories[parent] = {directory}
            directory = parent

    def discard(self, path: str) -> None:
        """One less, if it is there."""
        directory = _parent(path)
        names = self._names.get(directory)
        if names is None or path not in names:
            return
        names.discard(path)
        if not names:
            del self._names[directory]
        while directory and directory not in self._names and directory not in self._directories:
            parent = _parent(directory)
            self._directories[parent].discard(directory)
            if not self._directories[parent]:
                del self._directories[parent]
            directory = parent

    def below(self, directory: str) -> Iterator[str]:
        """Every path in this directory's tree."""
        waiting = [directory.rstrip("/")]
        while waiting:
            current = waiting.pop()
            yield from self._names.get(current, ())
            waiting += self._directories.get(current, ())


def _parent(path: str) -> str:
    """Empty for what is right below the root."""
    return path.rpartition("/")[0]
