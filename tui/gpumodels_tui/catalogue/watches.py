"""Directories under watch: inotify (or what the platform has) through watchdog, polled where that can't be had."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import threading
import warnings
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
"""Where nothing reports changes: each look costs a stat per file."""

STOP_SECONDS: Final = 1.0

_OF_INTEREST: Final[list[type[FileSystemEvent]]] = [
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
"""File systems that others write to without this kernel's knowledge; so do all `fuse.*`."""


_NOWHERE: Final = logging.NullHandler()


@dataclass(frozen=True, slots=True)
class Change:
    """Something happened to this name."""

    path: str
    is_directory: bool


class Watches(FileSystemEventHandler):
    """All directories under watch. Changes are told from other threads; `watch` and `unwatch` come from one."""

    def __init__(self, on_change: Callable[[Change], None], poll_seconds: float = POLL_SECONDS) -> None:
        self._on_change = on_change
        self._poll_seconds = poll_seconds
        self._notifying: BaseObserver | None = None
        self._polling: BaseObserver | None = None
        self._watched: dict[str, tuple[BaseObserver, ObservedWatch]] = {}
        _keep_watchdog_off_the_terminal()

    def watch(self, directory: str, recursive: bool = True) -> str | None:
        """Watch it and all below it, symlinks aside; it must not be one itself. Changes are told under its path.

        Args:
            recursive: False for what lies in it, and nothing below.

        Returns:
            Why it is only looked at from time to time, where that is so.

        Raises:
            OSError: it can't even be polled.
        """
        remote = remote_file_system(directory)
        if remote is not None:
            why = f"on {remote}, which doesn't report changes"
        else:
            try:
                self._notify(directory, recursive)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                    raise
                why = _shortage(error)
            else:
                return None
        self._poll(directory, recursive)
        return f"{why}; looked at every {self._poll_seconds:g} s instead"

    def unwatch(self, directory: str) -> None:
        """No longer."""
        watched = self._watched.pop(directory, None)
        if watched is not None:
            observer, watch = watched
            observer.unschedule(watch)

    def stop(self) -> None:
        """Stop all; a thread that hangs on a dead file system is left behind."""
        observers = [observer for observer in (self._notifying, self._polling) if observer is not None]
        self._notifying = self._polling = None
        self._watched.clear()
        stopping = [threading.Thread(target=_stop, args=(observer,), daemon=True) for observer in observers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(STOP_SECONDS)

    def dispatch(self, event: FileSystemEvent) -> None:
        """Called by watchdog, in its threads."""
        for path in (event.src_path, event.dest_path):
            if path:
                self._on_change(Change(os.fsdecode(path), event.is_directory))

    def _notify(self, directory: str, recursive: bool) -> None:
        if self._notifying is None:
            observer = Observer()
            observer.start()
            self._notifying = observer
        watch = self._notifying.schedule(self, directory, recursive=recursive, event_filter=_OF_INTEREST)
        try:
            _make_sure_that_watches_are_left(self._notifying)
        except OSError:
            self._notifying.unschedule(watch)
            raise
        self._watched[directory] = (self._notifying, watch)

    def _poll(self, directory: str, recursive: bool) -> None:
        if self._polling is None:
            # lstat: a symlink that leads back up must not be walked in circles.
            observer = PollingObserverVFS(os.lstat, os.scandir, polling_interval=self._poll_seconds)
            observer.start()
            self._polling = observer
        self._watched[directory] = (self._polling, self._polling.schedule(self, directory, recursive=recursive))


def remote_file_system(directory: str) -> str | None:
    """The type of the file system that the directory lies on, where changes on it go unreported."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
        device = os.stat(directory).st_dev
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    for mount in mounts:
        # `36 35 98:0 /root /mount/point options optional… - type source options`: see proc_pid_mountinfo(5).
        place, _, rest = mount.partition(" - ")
        fields, kind = place.split(), rest.split(" ", 1)[0]
        if len(fields) > 2 and fields[2] == number:
            return kind if kind in _REMOTE or kind.startswith("fuse.") else None
    return None


def _make_sure_that_watches_are_left(observer: BaseObserver) -> None:
    """Directories deep in a tree that get no watch raise nothing; one directory more then gets none either.

    Raises:
        OSError: none is left.
    """
    with tempfile.TemporaryDirectory(prefix="gpumodels-") as directory:
        observer.unschedule(observer.schedule(FileSystemEventHandler(), directory, event_filter=[DirMovedEvent]))


def _keep_watchdog_off_the_terminal() -> None:
    """Its log goes where the program sends logs, if anywhere; directories renamed in a row make it warn, harmlessly."""
    logging.getLogger("watchdog").addHandler(_NOWHERE)
    warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)


def _shortage(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "out of inotify watches (fs.inotify.max_user_watches)"
    if error.errno == errno.EMFILE:
        return "out of inotify instances (fs.inotify.max_user_instances)"
    return f"can't be watched ({(error.strerror or type(error).__name__).lower()})"


def _stop(observer: BaseObserver) -> None:
    observer.stop()
    observer.join()
