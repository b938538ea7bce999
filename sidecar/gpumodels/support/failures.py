"""What went wrong inside the sidecar: counted, logged once each, and never let through to the host."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Final

from gpumodels.support.resident import resident

LOGGER: Final = logging.getLogger("gpumodels")
LOGGER.addHandler(logging.NullHandler())  # without it, Python itself would print warnings where the host set up no logging


@resident
class Failures:
    """Counts by place. `guard` is the one spot where any exception is caught."""

    def __init__(self) -> None:
        self.count = 0
        self._logged: set[tuple[str, str]] = set()

    def note(self, where: str, error: BaseException) -> None:
        """Count it, and log it if this kind of error at this place is new."""
        self.count += 1
        key = (where, type(error).__name__)
        if key not in self._logged:
            self._logged.add(key)
            LOGGER.warning("%s failed and goes on without: %s: %s", where, type(error).__name__, error, exc_info=error)

    def guard(self, where: str) -> _Guard:
        """`with failures.guard("…"):` lets no Exception out."""
        return _Guard(self, where)


@resident
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
