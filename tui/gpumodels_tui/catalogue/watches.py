"""Watches directories through watchdog: by inotify or the platform's equivalent, otherwise by polling."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.polling import PollingObserverVFS

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver, ObservedWatch

POLL_SECONDS: Final = 5.0
"""Between two polls where nothing reports changes; each poll costs a stat per file."""

STOP_SECONDS: Final = 1.0

LEAST_SIBLINGS: Final = 3
"""From so many directories of one parent on, the parent is watched instead, if all of its directories are to be watched."""

_EVENTS: Final[list[type[FileSystemEvent]]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileClosedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]

_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "lustre", "gpfs", "beegfs", "afs", "virtiofs"})
"""File systems that other machines can change without this kernel noticing, like all `fuse.*`."""


_INOTIFY_LOG: Final = "watchdog.observers.inotify"
"""watchdog's modules for inotify, whose names begin so, log a warning when events were lost (from version 7.1 on), no event."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file or directory that was created, changed, moved or deleted."""

    path: str
    is_directory: bool


class _WatchdogLog(logging.Handler):
    """Keeps watchdog's log from stderr, and has those told whose events were lost, which nothing but a warning in it says."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.listeners: weakref.WeakSet[Watches] = weakref.WeakSet()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(_INOTIFY_LOG):
            for listener in list(self.listeners):
                listener.on_loss()


_WATCHDOG_LOG: Final = _WatchdogLog()


class Watches(FileSystemEventHandler):
    """All watched directories. Call `watch` and `unwatch` from one thread.

    watchdog starts a thread for each watch. So directories of one parent, such as ComfyUI's model folders, share a watch of the
    parent if it has no other directories; what changes beside them is not reported.

    Args:
        on_change: called with each change, from other threads.
        on_loss: called, from other threads too, when the kernel's queue overflowed and anything may have changed. watchdog then
            watches the directories anew that it finds, which goes on after the call.
        poll_seconds: between two polls where nothing reports changes.
    """

    def __init__(
        self,
        on_change: Callable[[Change], None],
        on_loss: Callable[[], None] = lambda: None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._on_change = on_change
        self.on_loss = on_loss
        self._poll_seconds = poll_seconds
        self._notifying: BaseObserver | None = None
        self._polling: BaseObserver | None = None
        self._watched: dict[str, tuple[BaseObserver, ObservedWatch]] = {}
        self._shared: dict[str, frozenset[str]] = {}
        """Parents with a watch of their own, and those of their directories for which it stands."""
        _silence_watchdog()
        _WATCHDOG_LOG.listeners.add(self)

    def watch(self, directory: str, recursive: bool = True) -> str | None:
        """Watch the directory and everything below it, except symlinks. Changes are reported under its path.

        Args:
            directory: must not be a symlink itself.
            recursive: False to watch only its own entries.

        Returns:
            Why it is only polled; None if changes are reported.

        Raises:
            OSError: it can't be polled either.
        """
        parent = directory.rpartition("/")[0]
        remote = remote_file_system(directory)
        if remote is None and recursive and parent in self._shared:
            self._shared[parent] |= {directory}
            return None
        if remote is not None:
            why = f"on {remote}, which doesn't report changes"
        else:
            try:
                self._notify(directory, recursive)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                    raise
                why = _why_not_watched(error)
            else:
                if recursive:
                    self._share(parent)
                return None
        self._poll(directory, recursive)
        return f"{why}; polled every {self._poll_seconds:g} s instead"

    def unwatch(self, directory: str) -> None:
        """End the watch on this directory, if there is one."""
        parent = directory.rpartition("/")[0]
        if directory in self._shared.get(parent, ()):
            self._shared[parent] -= {directory}
            if self._shared[parent]:
                return
            del self._shared[parent]
            directory = parent
        watched = self._watched.pop(directory, None)
        if watched is not None:
            observer, watch = watched
            observer.unschedule(watch)

    def stop(self) -> None:
        """End all watches. A thread that hangs on a dead file system is abandoned after `STOP_SECONDS`."""
        _WATCHDOG_LOG.listeners.discard(self)
        observers = [observer for observer in (self._notifying, self._polling) if observer is not None]
        self._notifying = self._polling = None
        self._watched.clear()
        self._shared.clear()
        stopping = [threading.Thread(target=_stop, args=(observer,), daemon=True) for observer in observers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(STOP_SECONDS)

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called by watchdog, in its own threads."""
        for path in (event.src_path, event.dest_path):
            if path and not self._is_beside(changed := os.fsdecode(path)):
                self._on_change(Change(changed, event.is_directory))

    def _is_beside(self, path: str) -> bool:
        """Whether it is beside the directories for which their parent is watched, not in them."""
        for parent, directories in list(self._shared.items()):
            if path.startswith(parent + "/"):
                name = path[len(parent) + 1 :].partition("/")[0]
                if f"{parent}/{name}" not in directories:
                    return True
        return False

    def _share(self, parent: str) -> None:
        """Watch the parent instead of its directories if each of them has a watch with everything below it."""
        watched = {
            directory: (observer, watch)
            for directory, (observer, watch) in self._watched.items()
            if observer is self._notifying and watch.is_recursive and directory.rpartition("/")[0] == parent
        }
        if len(watched) < LEAST_SIBLINGS or not parent or parent in self._watched or self._notifying is None:
            return
        with contextlib.suppress(OSError), os.scandir(parent) as entries:
            if any(entry.is_dir(follow_symlinks=False) and entry.path not in watched for entry in entries):
                return
            # First the one watch, then the end of the others, so that no change goes unnoticed in between.
            self._notify(parent, recursive=True)
            self._shared[parent] = frozenset(watched)
            for directory, (observer, watch) in watched.items():
                del self._watched[directory]
                observer.unschedule(watch)

    def _notify(self, directory: str, recursive: bool) -> None:
        if self._notifying is None:
            observer = Observer()
            observer.start()
            self._notifying = observer
        watch = self._notifying.schedule(self, directory, recursive=recursive, event_filter=_EVENTS)
        try:
            _require_spare_watch(self._notifying)
        except OSError:
            self._notifying.unschedule(watch)
            raise
        self._watched[directory] = (self._notifying, watch)

    def _poll(self, directory: str, recursive: bool) -> None:
        if self._polling is None:
            # lstat: a symlink to a parent directory must not lead to an endless walk.
            observer = PollingObserverVFS(os.lstat, os.scandir, polling_interval=self._poll_seconds)
            observer.start()
            self._polling = observer
        self._watched[directory] = (self._polling, self._polling.schedule(self, directory, recursive=recursive))


def remote_file_system(directory: str) -> str | None:
    """The type of the directory's file system if changes on it aren't reported, else None."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
        device = os.stat(directory).st_dev
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    for mount in mounts:
        # `36 35 98:0 /root /mount/point options optional… - type source options`: see proc_pid_mountinfo(5).
        before, _, rest = mount.partition(" - ")
        fields, kind = before.split(), rest.split(" ", 1)[0]
        if len(fields) > 2 and fields[2] == number:
            return kind if kind in _REMOTE or kind.startswith("fuse.") else None
    return None


def _require_spare_watch(observer: BaseObserver) -> None:
    """Check that one more directory can be watched: watchdog ignores subdirectories that it can't watch.

    Raises:
        OSError: no watches are left.
    """
    with tempfile.TemporaryDirectory(prefix="gpumodels-") as directory:
        observer.unschedule(observer.schedule(FileSystemEventHandler(), directory, event_filter=[DirMovedEvent]))


def _silence_watchdog() -> None:
    """Take over its log, and ignore its harmless warning about directories renamed in quick succession."""
    logging.getLogger("watchdog").addHandler(_WATCHDOG_LOG)
    warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)


def _why_not_watched(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "no inotify watches left (fs.inotify.max_user_watches)"
    if error.errno == errno.EMFILE:
        return "no inotify instances left (fs.inotify.max_user_instances)"
    return f"can't be watched ({(error.strerror or type(error).__name__).lower()})"


def _stop(observer: BaseObserver) -> None:
    observer.stop()
    observer.join()
