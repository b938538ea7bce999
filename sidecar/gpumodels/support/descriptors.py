"""Files that the sidecar has open: each is closed by its owner only, in the process that opened it, if the number is still its.

A number kept for later may be anybody's by then: the host may have closed all that it doesn't know, and a child of a fork has
copies of its parent's.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import Final

from gpumodels.support.resident import resident


@resident
class OwnDescriptor:
    """One open file."""

    __slots__ = ("__weakref__", "_file", "_number", "_pid")

    def __init__(self, path: str, flags: int) -> None:
        """Open it.

        Raises:
            OSError: it can't be opened.
        """
        self._pid = os.getpid()
        self._number = os.open(path, flags | os.O_CLOEXEC)
        self._file = _file_of(self._number)
        _OPEN.add(self)

    def __del__(self) -> None:
        try:
            self.close()
        except (AttributeError, TypeError):
            return  # the interpreter ends: modules are emptied by now, and the system closes what is open

    @property
    def size(self) -> int:
        """Bytes of the file.

        Raises:
            OSError: it was closed.
        """
        return os.fstat(self._number).st_size

    def read(self, length: int, offset: int) -> bytes:
        """What stands there now; less than was asked for at the file's end.

        Raises:
            OSError: it can't be read, or was closed.
        """
        return os.pread(self._number, length, offset)

    def close(self) -> None:
        """Let go of it, in the process that opened it."""
        if getattr(self, "_number", -1) >= 0 and os.getpid() == self._pid:
            self.close_inherited()

    def close_inherited(self) -> None:
        """The same right after a fork of that process, before anybody can have taken the number."""
        number, self._number = self._number, -1
        if number >= 0:
            with suppress(OSError):
                if _file_of(number) == self._file:
                    os.close(number)


_OPEN: Final[weakref.WeakSet[OwnDescriptor]] = weakref.WeakSet()


def close_all_inherited() -> None:
    """In the child of a fork: all of the parent's."""
    for one in list(_OPEN):
        one.close_inherited()


def _file_of(number: int) -> tuple[int, int]:
    status = os.fstat(number)
    return status.st_dev, status.st_ino
