"""Finds the model files: walks the model directories, follows their changes, and keeps checking files named by snapshots.

Each real directory is known under one name. Watches may overlap, through symlinks or directories given twice; whichever of
them reports a change, the change is recorded under that name.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpumodels_tui.catalogue.ledger import PUBLISH_SECONDS, Ledger
from gpumodels_tui.catalogue.tree import NEVER_ENTERED, NEVER_WATCHED, Sighting, Stamp, inspect_path, is_directory_link, walk
from gpumodels_tui.headers.formats import describes_others, suffix_of

if TYPE_CHECKING:
    from gpumodels_tui.catalogue.watches import Change, Watches

GATHER_SECONDS: Final = 0.1
"""How long changes are collected: a file being written changes many times a second, and is inspected only once."""

CHECK_SECONDS: Final = 2.0
"""Between two checks of the followed files, and of whether the directories are still the same ones."""

RESCAN_SECONDS: Final = 300.0
"""Between two full walks, which find what changed without any report."""

REST_SECONDS: Final = 1.0
REST_RATIO: Final = 4.0
"""After a full walk because of lost reports, the next begins no sooner than so long, or than so many times the last one took."""

MAX_FOLLOWED: Final = 10_000

CHECKED_AT_ONCE: Final = 1_000
"""Followed files checked in one round, which takes a few milliseconds."""

MAX_PARENT_DIRECTORIES: Final = 1_000
"""Directories of followed files that are watched for other model files."""


@dataclass(slots=True)
class _Root:
    """A directory with a watch of its own."""

    identity: tuple[int, int] | None = None
    """Its device and inode when it was opened; None if it didn't exist."""
    watched: str | None = None
    """Its real path, unless it is part of another root's tree."""
    is_deep: bool = True
    """Whether everything below it is watched too; not so for the directory of a followed file."""


class FileFinder:
    """Finds model files in a thread of its own, which calls `run`; other threads call `follow`, `add` and `stop`."""

    def __init__(self, directories: Sequence[str], ledger: Ledger, watched: bool, with_neighbours: bool = True) -> None:
        """Args:
        directories: walked with everything below them.
        watched: whether changes are followed.
        models_beside: whether other models in the directories of followed files matter, or only files that describe these.
        """
        self._directories = list(directories)
        self._ledger = ledger
        self._models_beside = with_neighbours
        self._lock = threading.Condition()
        self._changes: dict[Change, None] = {}
        self._followed: OrderedDict[str, None] = OrderedDict()
        """In the order of the last request, the most recent at the end."""
        self._to_check: list[str] = []
        """Followed files not checked yet in this round."""
        self._uninspected: dict[str, None] = {}
        self._parent_directories: set[str] = set()
        self._unopened: dict[str, bool] = {}
        """Directories to open, and whether to include everything below them."""
        self._opening = False
        """Whether some of them are being opened right now."""
        self._stopped = threading.Event()
        self._walked = False
        self._watches: Watches | None = None
        if watched:
            from gpumodels_tui.catalogue.watches import Watches  # reading everything once needs no watchdog

            self._watches = Watches(self._on_change, self._on_loss)
        self._lost = False
        """Whether reports of changes were lost since the last full walk began."""
        self._walk_again = False
        """Whether watches were still being renewed during the last full walk, so that changes went unseen behind it."""
        self._walk_not_before = float("-inf")
        self._roots: dict[str, _Root] = {}
        """The given directories, and those that symlinks in them point to."""
        self._names: dict[str, str] = {}
        """Walked directories: the name in use, by real path."""

    def run(self) -> None:
        """Find files and follow changes until stopped."""
        self._inspect_new_followed()
        for directory in list(self._directories):
            self._open_root(directory)
        self._open_new_roots()
        self._ledger.finish_walk()
        with self._lock:
            self._walked = True
            self._lock.notify_all()
        rescan_at = time.monotonic() + RESCAN_SECONDS
        while not self._stopped.is_set():
            self._ledger.publish()
            with self._lock:
                if not (self._changes or self._uninspected or self._unopened or self._is_walk_due()):
                    self._lock.wait(PUBLISH_SECONDS if self._ledger.is_due() else CHECK_SECONDS)
                news = bool(self._changes)
            if news and self._stopped.wait(GATHER_SECONDS):
                return
            with self._lock:
                changes, self._changes = list(self._changes), {}
            for change in changes:
                self._handle_change(change)
            self._inspect_new_followed()
            self._open_new_roots()
            self._check_followed()
            self._check_roots()
            if self._is_walk_due():
                self._walk_after_loss()
            if time.monotonic() >= rescan_at:
                self._walk_all()
                rescan_at = time.monotonic() + RESCAN_SECONDS

    def stop(self) -> None:
        """Make `run` return, and end all watches."""
        self._stopped.set()
        with self._lock:
            self._lock.notify_all()
        if self._watches is not None:
            self._watches.stop()

    def follow(self, paths: Iterable[str]) -> None:
        """Inspect these files and the other files in their directories, and keep following them."""
        with self._lock:
            for path in paths:
                if path in self._followed:
                    self._followed.move_to_end(path)
                    continue
                if not path.startswith("/") or "\0" in path:
                    continue
                self._keep_following(path)
                self._uninspected[path] = None
                directory = path.rpartition("/")[0]
                if len(self._parent_directories) < MAX_PARENT_DIRECTORIES and directory not in self._parent_directories:
                    self._parent_directories.add(directory)
                    self._unopened.setdefault(directory, False)
            if self._uninspected:
                self._lock.notify_all()

    def add(self, directories: Iterable[str]) -> None:
        """Walk and watch these directories too, with everything below them."""
        with self._lock:
            new = [directory for directory in directories if directory not in self._directories]
            self._directories += new
            self._unopened.update(dict.fromkeys(new, True))
            if new:
                self._lock.notify_all()

    def wait_until_found(self, deadline: float) -> None:
        """Wait until all directories are walked and all followed files inspected, or until the deadline (monotonic time)."""
        with self._lock:
            self._lock.wait_for(
                lambda: self._walked and not (self._uninspected or self._unopened or self._opening),
                max(0.0, deadline - time.monotonic()),
            )

    # Changes.

    def _on_change(self, change: Change) -> None:
        """Called by the watches' threads for every file; few of them are model files."""
        path = change.path
        if change.is_directory or suffix_of(path) is not None or self._names_for(path) or is_directory_link(path):
            with self._lock:
                self._changes[change] = None
                self._lock.notify_all()

    def _on_loss(self) -> None:
        """Called by the watches' threads when reports of changes were lost."""
        with self._lock:
            self._lost = True
            self._lock.notify_all()

    def _handle_change(self, change: Change) -> None:
        path = self._name_in_use(change.path)
        if path in self._roots:
            return  # `_check_roots` finds out whether it was replaced
        if is_directory_link(path):
            if self._is_deep(path):
                self._open_root(path)
        elif change.is_directory:
            if self._is_deep(path):
                self._walk(path)
        else:
            for name in {*self._names_for(path), *([path] if suffix_of(path) is not None else [])}:
                self._inspect(name)

    def _names_for(self, path: str) -> set[str]:
        """All known names of the file that was changed under this path."""
        directory, _, name = path.rpartition("/")
        names = self._ledger.names_of(f"{os.path.realpath(directory)}/{name}")
        if self._ledger.knows(path):
            names.add(path)
        return names

    def _name_in_use(self, path: str) -> str:
        """The path under the name in use for its directory; unchanged if the directory wasn't walked."""
        directory, _, name = path.rpartition("/")
        return f"{self._names.get(os.path.realpath(directory), directory)}/{name}"

    # Single files.

    def _inspect(self, path: str, urgent: bool = False) -> None:
        sighting = inspect_path(path)
        if sighting is None:
            self._ledger.remove(path)
            return
        self._ledger.enter([sighting], urgent)
        self._follow_target(sighting)

    def _inspect_new_followed(self) -> None:
        with self._lock:
            new = list(self._uninspected)
        for path in new:
            self._inspect(path, urgent=True)
        with self._lock:
            for path in new:
                self._uninspected.pop(path, None)
            self._lock.notify_all()

    def _check_followed(self) -> None:
        """Stat the followed files, `CHECKED_AT_ONCE` at a time.

        That is cheaper than watches on all their directories, and works on every file system.
        """
        if not self._to_check:
            with self._lock:
                self._to_check = list(self._followed)
        paths = self._to_check[-CHECKED_AT_ONCE:]
        del self._to_check[-CHECKED_AT_ONCE:]
        for path in paths:
            try:
                stamp = Stamp.of(os.stat(path))
            except OSError:
                stamp = None
            if not self._ledger.is_stamped(path, stamp):
                self._inspect(path, urgent=True)

    def _follow_target(self, sighting: Sighting) -> None:
        """Follow a symlink whose target is outside the watched trees, where a change would go unnoticed."""
        if sighting.real == sighting.path or sighting.real.rpartition("/")[0] in self._names:
            return
        with self._lock:
            self._keep_following(sighting.path)

    def _keep_following(self, path: str) -> None:
        """Add the path; beyond `MAX_FOLLOWED`, drop those requested least recently. Call it with the lock held."""
        self._followed[path] = None
        while len(self._followed) > MAX_FOLLOWED:
            dropped, _ = self._followed.popitem(last=False)
            self._uninspected.pop(dropped, None)

    # Trees.

    def _open_new_roots(self) -> None:
        with self._lock:
            new, self._unopened = self._unopened, {}
            self._opening = bool(new)
        for directory, is_deep in new.items():
            self._open_root(directory, is_deep)
        with self._lock:
            self._opening = False
            self._lock.notify_all()

    def _open_root(self, directory: str, is_deep: bool = True) -> None:
        """Watch first, then walk, so that a file created in between is seen twice rather than never."""
        known = self._roots.get(directory)
        if known is not None and (known.is_deep or not is_deep):
            return
        real = os.path.realpath(directory)
        if not is_deep and (real in NEVER_WATCHED or real in self._names):
            return
        if known is not None and known.watched is not None and self._watches is not None:
            self._watches.unwatch(known.watched)
        if is_deep and directory not in self._directories and (real in NEVER_ENTERED or self._contains_given(real)):
            return
        root = self._roots[directory] = _Root(is_deep=is_deep)
        try:
            root.identity = _identity(directory)
            if Path(directory).is_file():
                self.follow([directory])
            elif self._may_enter(directory, real):
                self._ledger.set_notice(directory, self._watch(directory, real, is_deep))
                root.watched = real
                self._walk(directory)
        except OSError as error:
            if is_deep:  # for a followed file's directory, the error of the file itself is enough
                self._ledger.set_notice(directory, f"{directory}: {(error.strerror or type(error).__name__).lower()}")

    def _is_deep(self, path: str) -> bool:
        """Whether the path is in a directory that is watched with everything below it."""
        return any(root.is_deep and path.startswith(name.rstrip("/") + "/") for name, root in self._roots.items())

    def _watch(self, directory: str, real: str, is_deep: bool) -> str | None:
        reason = None if self._watches is None else self._watches.watch(real, is_deep)
        return None if reason is None else f"{directory}: {reason}"

    def _check_roots(self) -> None:
        """Reopen the directories that were removed, created, or replaced by another of the same name."""
        for directory, root in list(self._roots.items()):
            try:
                identity = _identity(directory)
            except OSError:
                identity = None
            if identity == root.identity:
                continue
            if self._watches is not None and root.watched is not None:
                self._watches.unwatch(root.watched)
            del self._roots[directory]
            self._ledger.set_notice(directory, None)
            for name in self._ledger.names_below(directory):
                self._inspect(name)
            if directory in self._directories or identity is not None:
                self._names = {real: name for real, name in self._names.items() if name != directory}
                self._open_root(directory, root.is_deep)

    def _is_walk_due(self) -> bool:
        return (self._lost or self._walk_again) and time.monotonic() >= self._walk_not_before

    def _walk_after_loss(self) -> None:
        """Find what changed without a report, at once, and once more when the directories are surely watched again."""
        with self._lock:
            self._walk_again, self._lost = self._lost, False
        began = time.monotonic()
        self._walk_all()
        ended = time.monotonic()
        self._walk_not_before = ended + max(REST_SECONDS, REST_RATIO * (ended - began))

    def _walk_all(self) -> None:
        for root in list(self._roots):
            self._walk(root)

    def _walk(self, directory: str) -> None:
        """Record everything below the directory, and inspect the known names that the walk didn't find."""
        missing = set(self._ledger.names_below(directory))
        root = self._roots.get(directory)
        is_deep = root is None or root.is_deep
        links: list[str] = []
        aliases: list[Sighting] = []
        for listing in walk(directory, self._may_enter if is_deep else lambda path, real: path == directory):
            if not (is_deep or self._models_beside):
                listing.sightings = [sighting for sighting in listing.sightings if describes_others(sighting.path)]
            self._ledger.enter(listing.sightings)
            missing.difference_update(sighting.path for sighting in listing.sightings)
            aliases.extend(sighting for sighting in listing.sightings if sighting.real != sighting.path)
            links.extend(listing.links if is_deep else ())
            if listing.problem is not None:
                self._ledger.set_notice(listing.path, f"{listing.path}: {listing.problem}")
            elif listing.path not in self._roots:
                self._ledger.set_notice(listing.path, None)
            if self._stopped.is_set():
                return
            self._ledger.publish()
        for name in missing:
            self._inspect(name)
        for sighting in aliases:
            self._follow_target(sighting)
        for link in links:
            self._open_root(link)

    def _may_enter(self, path: str, real: str) -> bool:
        """Enter each real directory under one name, while that name leads to it: this avoids loops and double work."""
        name = self._names.get(real)
        if name is not None and name != path and os.path.realpath(name) == real:
            return False
        self._names[real] = path
        return True

    def _contains_given(self, real: str) -> bool:
        """Whether a symlink's target contains one of the given directories: then it isn't a model directory of its own."""
        return any(os.path.realpath(directory).startswith(real.rstrip("/") + "/") for directory in self._directories)


def _identity(directory: str) -> tuple[int, int]:
    status = os.stat(directory)
    return status.st_dev, status.st_ino
