"""Errors inside the sidecar: counted, logged once each, and never raised into the host."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Final

from gpumodels.support.never_pickled import never_pickled

LOGGER: Final = logging.getLogger("gpumodels")
LOGGER.addHandler(logging.NullHandler())  # without a handler, Python prints warnings where the host hasn't set up logging


@never_pickled
class Failures:
    """Counts and logs errors. `guard` catches any Exception."""

    def __init__(self) -> None:
        self.count = 0
        self._logged: set[tuple[str, str]] = set()

    def note(self, where: str, error: BaseException) -> None:
        """Count the error, and log it if no error of this type was logged for `where` before.

        Args:
            where: what was being done, for the log: `reading a tensor`.
            error: the exception.
        """
        self.count += 1
        key = (where, type(error).__name__)
        if key not in self._logged:
            self._logged.add(key)
            LOGGER.warning("%s failed; continuing without it: %s: %s", where, type(error).__name__, error, exc_info=error)

    def guard(self, where: str) -> _Guard:
        """A context that passes any Exception to `note` instead of raising it: `with failures.guard("reading a tensor"):`."""
        return _Guard(self, where)


@never_pickled
class _Guard:
    __slots__ = ("_failures", "_where")

    def __init__(self, failures: Failures, where: str) -> None:
        self._failures = failures
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        self._failures.note(self._where, error)
        return True
