"""What people call a file of a content-addressed store, which calls it by a hash: the symlinks that lead to it.

In the Hugging Face cache these are the snapshots of a repository; with blobs that repositories share, of any of them. git-annex
and DVC keep their stores in the directory in which the symlinks are. Stores without symlinks (ollama's) name nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.file_names import is_named_by_content

MAX_ENTRIES: Final = 20_000
"""The most directory entries that are read for one file."""
ENTRIES_PER_STEP: Final = 100
MAX_NAMES: Final = 16
STORES: Final = ("/.git/annex/objects/", "/.dvc/cache/")
"""Where stores begin in the directory whose symlinks lead into them."""


@never_pickled
class StoredFiles:
    """Finds symlinks to stored files, once for each: hosts load a file after its symlink was made."""

    def __init__(self, pause: Callable[[], None]) -> None:
        """`pause`: called every few directory entries."""
        self._pause = pause
        self._names: dict[str, tuple[str, ...]] = {}

    def names_of(self, path: str) -> tuple[str, ...]:
        """The symlinks to this file; empty for files that have a name of their own, and where none is found."""
        if not is_named_by_content(path):
            return ()
        known = self._names.get(path)
        if known is None:
            known = self._names[path] = self._found(path)
        return known

    def _found(self, path: str) -> tuple[str, ...]:
        real = os.path.realpath(path)
        found: list[str] = []
        for count, entry in enumerate(_entries_around(path)):
            if count % ENTRIES_PER_STEP == 0:
                self._pause()
            if count >= MAX_ENTRIES or len(found) >= MAX_NAMES:
                return ()  # not all of them were seen: others may say something else
            if entry.is_symlink() and not is_named_by_content(entry.path) and os.path.realpath(entry.path) == real:
                found.append(entry.path)
        return tuple(sorted(found))


def _entries_around(path: str) -> Iterator[os.DirEntry[str]]:
    """The directory entries that may be symlinks to the file."""
    for store in STORES:
        if store in path:
            yield from _entries_below(path.partition(store)[0])
            return
    for holder in (path, os.path.realpath(path)):
        cache, repository, _ = holder.partition("/models--")
        if repository:
            name = holder[len(cache) + 1 :].partition("/")[0]
            yield from _entries_below(f"{cache}/{name}/snapshots")
            return
    cache, blobs, _ = path.rpartition("/blobs/")
    if blobs:
        for entry in _listed(cache):
            if entry.name.startswith("models--"):
                yield from _entries_below(f"{entry.path}/snapshots")


def _entries_below(directory: str) -> Iterator[os.DirEntry[str]]:
    """All entries below the directory; hidden directories, in which stores are, aren't entered, nor are symlinks."""
    waiting = [directory]
    while waiting:
        for entry in _listed(waiting.pop()):
            yield entry
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                waiting.append(entry.path)


def _listed(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []  # unreadable, or gone
