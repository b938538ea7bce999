"""The sidecar's open files. Each is closed by its owner only, in the process that opened it, and only if it is still that file.

A descriptor number may belong to somebody else by the time we close it: the host may have closed every descriptor that it doesn't
know, and a forked child has copies of its parent's.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import Final

from gpumodels.support.never_pickled import never_pickled


@never_pickled
class OwnDescriptor:
    """An open file that remembers its inode and the process that opened it."""

    __slots__ = ("__weakref__", "_identity", "_number", "_pid")

    def __init__(self, path: str, flags: int) -> None:
        """Open the file.

        Args:
            path: the file.
            flags: as for `os.open`; O_CLOEXEC is added.

        Raises:
            OSError: it can't be opened.
        """
        self._pid = os.getpid()
        self._number = os.open(path, flags | os.O_CLOEXEC)
        self._identity = _identity_of(self._number)
        _OPEN.add(self)

    def __del__(self) -> None:
        try:
            self.close()
        except (AttributeError, TypeError):
            return  # at interpreter shutdown modules are already cleared; the system closes what is open

    @property
    def size(self) -> int:
        """The file's current length in bytes.

        Raises:
            OSError: it was closed.
        """
        return os.fstat(self._number).st_size

    def read(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer at the end of the file.

        Raises:
            OSError: it can't be read, or was closed.
        """
        return os.pread(self._number, length, offset)

    def close(self) -> None:
        """Close it if this is the process that opened it."""
        if getattr(self, "_number", -1) >= 0 and os.getpid() == self._pid:
            self.close_inherited()

    def close_inherited(self) -> None:
        """Close a forked child's copy, right after the fork, before anything else can have taken the number."""
        number, self._number = self._number, -1
        if number >= 0:
            with suppress(OSError):
                if _identity_of(number) == self._identity:
                    os.close(number)


_OPEN: Final[weakref.WeakSet[OwnDescriptor]] = weakref.WeakSet()


def close_all_inherited() -> None:
    """Close the copies of all of the parent's descriptors; called in a forked child."""
    for descriptor in list(_OPEN):
        descriptor.close_inherited()


def _identity_of(number: int) -> tuple[int, int]:
    status = os.fstat(number)
    return status.st_dev, status.st_ino
