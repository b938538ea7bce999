"""Which files there are: walks the model directories, follows their changes, and looks again at files named from elsewhere.

Each real directory is known under one name. Watches may overlap, through symlinks or directories given twice; whichever of
them reports a change, it is looked at under that name.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpumodels_tui.catalogue.ledger import PUBLISH_SECONDS, Ledger
from gpumodels_tui.catalogue.tree import NEVER_ENTERED, NEVER_WATCHED, Sighting, Stamp, is_directory_link, look_at, walk
from gpumodels_tui.catalogue.watches import Change, Watches
from gpumodels_tui.headers.formats import suffix_of, tells_of_others

GATHER_SECONDS: Final = 0.1
"""After a change: a file that is written to changes many times a second, and is looked at once."""

LOOK_SECONDS: Final = 0.75
"""Between two looks at followed files and at whether the directories are still the same ones."""

RESCAN_SECONDS: Final = 300.0
"""Between two full walks: what a flooded event queue lost comes back with the next."""

MAX_FOLLOWED: Final = 10_000

LOOKED_AT_ONCE: Final = 1_000
"""Followed files that are looked at in one look: a few milliseconds."""

MAX_NEIGHBOURHOODS: Final = 1_000
"""Directories of followed files, whose other files are looked at too."""


@dataclass(slots=True)
class _Root:
    """A directory with a watch of its own."""

    identity: tuple[int, int] | None = None
    """The device and inode it had when it was opened; None where it wasn't there."""
    watched: str | None = None
    """Its real path, where it isn't part of another root's tree."""
    is_deep: bool = True
    """With all below it; a followed file's directory is not."""


class Looking:
    """One thread's work, `run`; `follow` and `stop` come from any other."""

    def __init__(self, directories: Sequence[str], ledger: Ledger, watched: bool, models_beside: bool = True) -> None:
        """Args:
        directories: looked at with all below them.
        watched: whether changes are followed.
        models_beside: whether beside followed files other models are of interest, not only what tells of these.
        """
        self._directories = list(directories)
        self._ledger = ledger
        self._models_beside = models_beside
        self._lock = threading.Condition()
        self._changes: dict[Change, None] = {}
        self._followed: OrderedDict[str, None] = OrderedDict()
        """Those that were asked for last, last."""
        self._to_look_at: list[str] = []
        """What this round of looks has not come to yet."""
        self._unlooked: dict[str, None] = {}
        self._neighbourhoods: set[str] = set()
        self._unopened: dict[str, bool] = {}
        """Directories to open, and whether with all below them."""
        self._opening = False
        """Some of them are being opened right now."""
        self._stopped = threading.Event()
        self._walked = False
        self._watches = Watches(self._notice) if watched else None
        self._roots: dict[str, _Root] = {}
        """The given directories, and those that symlinks in them lead to."""
        self._names: dict[str, str] = {}
        """Walked directories: the name in use, by real path."""

    def run(self) -> None:
        """Look until stopped."""
        self._look_at_new_followed()
        for directory in list(self._directories):
            self._open_root(directory)
        self._open_new_roots()
        self._ledger.looked()
        with self._lock:
            self._walked = True
            self._lock.notify_all()
        rescan_at = time.monotonic() + RESCAN_SECONDS
        while not self._stopped.is_set():
            self._ledger.publish()
            with self._lock:
                if not (self._changes or self._unlooked or self._unopened):
                    self._lock.wait(PUBLISH_SECONDS if self._ledger.is_due() else LOOK_SECONDS)
                news = bool(self._changes)
            if news and self._stopped.wait(GATHER_SECONDS):
                return
            with self._lock:
                changes, self._changes = list(self._changes), {}
            for change in changes:
                self._follow_up(change)
            self._look_at_new_followed()
            self._open_new_roots()
            self._look_again_at_followed()
            self._check_roots()
            if time.monotonic() >= rescan_at:
                for root in list(self._roots):
                    self._walk(root)
                rescan_at = time.monotonic() + RESCAN_SECONDS

    def stop(self) -> None:
        """End `run` and all watches."""
        self._stopped.set()
        with self._lock:
            self._lock.notify_all()
        if self._watches is not None:
            self._watches.stop()

    def follow(self, paths: Iterable[str]) -> None:
        """Look at these files too, now and from now on, and at what lies beside them."""
        with self._lock:
            for path in paths:
                if path in self._followed:
                    self._followed.move_to_end(path)
                    continue
                if not path.startswith("/") or "\0" in path:
                    continue
                self._keep_following(path)
                self._unlooked[path] = None
                directory = path.rpartition("/")[0]
                if len(self._neighbourhoods) < MAX_NEIGHBOURHOODS and directory not in self._neighbourhoods:
                    self._neighbourhoods.add(directory)
                    self._unopened.setdefault(directory, False)
            if self._unlooked:
                self._lock.notify_all()

    def add(self, directories: Iterable[str]) -> None:
        """Look at these directories too, with all below them, from now on."""
        with self._lock:
            new = [directory for directory in directories if directory not in self._directories]
            self._directories += new
            self._unopened.update(dict.fromkeys(new, True))
            if new:
                self._lock.notify_all()

    def wait_until_looked(self, deadline: float) -> None:
        """Until all directories were walked and all followed files looked at, or the deadline (monotonic)."""
        with self._lock:
            self._lock.wait_for(
                lambda: self._walked and not (self._unlooked or self._unopened or self._opening),
                max(0.0, deadline - time.monotonic()),
            )

    # Changes.

    def _notice(self, change: Change) -> None:
        """Called by the watches' threads, for every file; few are ours."""
        path = change.path
        if change.is_directory or suffix_of(path) is not None or self._names_for(path) or is_directory_link(path):
            with self._lock:
                self._changes[change] = None
                self._lock.notify_all()

    def _follow_up(self, change: Change) -> None:
        path = self._name_in_use(change.path)
        if path in self._roots:
            return  # `_check_roots` sees whether it is still the same one
        if is_directory_link(path):
            if self._is_deep(path):
                self._open_root(path)
        elif change.is_directory:
            if self._is_deep(path):
                self._walk(path)
        else:
            for name in {*self._names_for(path), *([path] if suffix_of(path) is not None else [])}:
                self._look_at(name)

    def _names_for(self, path: str) -> set[str]:
        """The names that a change of this path concerns."""
        directory, _, name = path.rpartition("/")
        names = self._ledger.names_of(f"{os.path.realpath(directory)}/{name}")
        if self._ledger.knows(path):
            names.add(path)
        return names

    def _name_in_use(self, path: str) -> str:
        """The path under its directory's one name; as it is where the directory has none."""
        directory, _, name = path.rpartition("/")
        return f"{self._names.get(os.path.realpath(directory), directory)}/{name}"

    # Single files.

    def _look_at(self, path: str, urgent: bool = False) -> None:
        sighting = look_at(path)
        if sighting is None:
            self._ledger.lost(path)
            return
        self._ledger.saw([sighting], urgent)
        self._follow_out(sighting)

    def _look_at_new_followed(self) -> None:
        with self._lock:
            new = list(self._unlooked)
        for path in new:
            self._look_at(path, urgent=True)
        with self._lock:
            for path in new:
                self._unlooked.pop(path, None)
            self._lock.notify_all()

    def _look_again_at_followed(self) -> None:
        """One stat for each: cheaper than watches on all their directories, and right on every file system. Of many, in turn."""
        if not self._to_look_at:
            with self._lock:
                self._to_look_at = list(self._followed)
        paths = self._to_look_at[-LOOKED_AT_ONCE:]
        del self._to_look_at[-LOOKED_AT_ONCE:]
        for path in paths:
            try:
                stamp = Stamp.of(os.stat(path))
            except OSError:
                stamp = None
            if not self._ledger.is_stamped(path, stamp):
                self._look_at(path, urgent=True)

    def _follow_out(self, sighting: Sighting) -> None:
        """What a symlink leads to out of the watched trees would change unseen."""
        if sighting.real == sighting.path or sighting.real.rpartition("/")[0] in self._names:
            return
        with self._lock:
            self._keep_following(sighting.path)

    def _keep_following(self, path: str) -> None:
        """With the lock held. Who asks again stays; of more than can be followed, those go that nobody asked for the longest."""
        self._followed[path] = None
        while len(self._followed) > MAX_FOLLOWED:
            gone, _ = self._followed.popitem(last=False)
            self._unlooked.pop(gone, None)

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
        """Watch first, then walk: what comes in between is seen twice rather than never."""
        known = self._roots.get(directory)
        if known is not None and (known.is_deep or not is_deep):
            return
        real = os.path.realpath(directory)
        if not is_deep and (real in NEVER_WATCHED or real in self._names):
            return
        if known is not None and known.watched is not None and self._watches is not None:
            self._watches.unwatch(known.watched)
        if is_deep and directory not in self._directories and (real in NEVER_ENTERED or self._leads_up(real)):
            return
        root = self._roots[directory] = _Root(is_deep=is_deep)
        try:
            root.identity = _identity(directory)
            if Path(directory).is_file():
                self.follow([directory])
            elif self._may_enter(directory, real):
                self._ledger.say(directory, self._watch(directory, real, is_deep))
                root.watched = real
                self._walk(directory)
        except OSError as error:
            if is_deep:  # of a followed file's directory, its file tells
                self._ledger.say(directory, f"{directory}: {(error.strerror or type(error).__name__).lower()}")

    def _is_deep(self, path: str) -> bool:
        """Whether it lies in a directory that is looked at with all below it."""
        return any(root.is_deep and path.startswith(name.rstrip("/") + "/") for name, root in self._roots.items())

    def _watch(self, directory: str, real: str, is_deep: bool) -> str | None:
        reason = None if self._watches is None else self._watches.watch(real, is_deep)
        return None if reason is None else f"{directory}: {reason}"

    def _check_roots(self) -> None:
        """A directory that went away, came, or is another one by the same name."""
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
            self._ledger.say(directory, None)
            for name in self._ledger.names_below(directory):
                self._look_at(name)
            if directory in self._directories or identity is not None:
                self._names = {real: name for real, name in self._names.items() if name != directory}
                self._open_root(directory, root.is_deep)

    def _walk(self, directory: str) -> None:
        """Everything below it as it is now; what was known there and isn't any more goes."""
        gone = set(self._ledger.names_below(directory))
        root = self._roots.get(directory)
        is_deep = root is None or root.is_deep
        links: list[str] = []
        aliases: list[Sighting] = []
        for listing in walk(directory, self._may_enter if is_deep else lambda path, real: path == directory):
            if not (is_deep or self._models_beside):
                listing.sightings = [sighting for sighting in listing.sightings if tells_of_others(sighting.path)]
            self._ledger.saw(listing.sightings)
            gone.difference_update(sighting.path for sighting in listing.sightings)
            aliases.extend(sighting for sighting in listing.sightings if sighting.real != sighting.path)
            links.extend(listing.links if is_deep else ())
            if listing.problem is not None:
                self._ledger.say(listing.path, f"{listing.path}: {listing.problem}")
            elif listing.path not in self._roots:
                self._ledger.say(listing.path, None)
            if self._stopped.is_set():
                return
            self._ledger.publish()
        for name in gone:
            self._look_at(name)
        for sighting in aliases:
            self._follow_out(sighting)
        for link in links:
            self._open_root(link)

    def _may_enter(self, path: str, real: str) -> bool:
        """Each real directory under one name, for as long as that name leads to it: no loop, no double work."""
        name = self._names.get(real)
        if name is not None and name != path and os.path.realpath(name) == real:
            return False
        self._names[real] = path
        return True

    def _leads_up(self, real: str) -> bool:
        """Whether a symlink leads to what one of the given directories lies in: that isn't a place for models of its own."""
        return any(os.path.realpath(directory).startswith(real.rstrip("/") + "/") for directory in self._directories)


def _identity(directory: str) -> tuple[int, int]:
    status = os.stat(directory)
    return status.st_dev, status.st_ino
