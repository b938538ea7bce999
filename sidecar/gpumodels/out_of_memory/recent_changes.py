"""Remembers for a minute which models were loaded, moved and unloaded: what led to a failed allocation."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.schema import Model

KEPT_NS: Final = 60 * 10**9
MAX_KEPT: Final = 256

Change = tuple[int, str, str, int]
"""When (realtime nanoseconds), what (`loaded`, `moved`, `unloaded`), the model's name, and the bytes."""


@never_pickled
class RecentChanges:
    """Compares the models of one look with those of the look before."""

    def __init__(self) -> None:
        self._known: dict[str, Model] = {}
        self._changes: deque[Change] = deque(maxlen=MAX_KEPT)

    def see(self, models: Sequence[Model], now_ns: int) -> None:
        """Note what changed since the last call.

        Args:
            models: all models of this look.
            now_ns: realtime nanoseconds.
        """
        current = {model.id: model for model in models}
        for key, model in self._known.items():
            if key not in current:
                self._note(now_ns, "unloaded", model)
        for key, model in current.items():
            before = self._known.get(key)
            if before is None:
                self._note(now_ns, "loaded", model)
            elif before.bytes_by_device is not model.bytes_by_device and _moved(before, model):
                self._note(now_ns, "moved", model)
        self._known = current
        while self._changes and self._changes[0][0] < now_ns - KEPT_NS:
            self._changes.popleft()

    def until(self, at_ns: int) -> tuple[Change, ...]:
        """The changes of the minute before, oldest first."""
        return tuple(change for change in self._changes if at_ns - KEPT_NS <= change[0] <= at_ns)

    def _note(self, now_ns: int, what: str, model: Model) -> None:
        if size := model.resident_bytes:
            self._changes.append((now_ns, what, model.name, size))


def _moved(before: Model, after: Model) -> bool:
    """Whether the larger part of it is on another device now; single pages that come and go are no move."""
    if before.dynamic_memory or after.dynamic_memory or not before.bytes_by_device or not after.bytes_by_device:
        return False
    return _main_device(before) != _main_device(after)


def _main_device(model: Model) -> str:
    return max(sorted(model.bytes_by_device), key=model.bytes_by_device.__getitem__)
