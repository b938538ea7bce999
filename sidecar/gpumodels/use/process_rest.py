"""Since when the process has computed nothing, by its processor time: what doesn't compute runs no model."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

from gpumodels.support.never_pickled import never_pickled

REST_NS: Final = 20_000
"""Less processor time than this is none. Waking a thread and calling one small layer takes several times as much; a process whose
threads all wait was measured to take less than 3 µs a second beside the sidecar's own thread."""
CHILDREN: Final = "multiprocessing.process"


def host_time_ns() -> int:
    """Processor time of all threads but this one, which is the sidecar's, in nanoseconds."""
    return time.process_time_ns() - time.thread_time_ns()


@never_pickled
class ProcessRest:
    """Compares the process's time at each tick.

    Args:
        host_time_ns: processor time of the host's threads, in nanoseconds.
    """

    def __init__(self, host_time_ns: Callable[[], int] = host_time_ns) -> None:
        self._host_time_ns = host_time_ns
        self._spent_ns: int | None = None
        self._earlier_ns = REST_NS
        """What was spent between the two ticks before: a call may lie across a tick, half before and half after it."""
        self.since_ns: int | None = None
        """The tick before which the process last computed, realtime nanoseconds; None if it just did."""

    def update(self, now_ns: int) -> None:
        """Take the time. For the sidecar's thread."""
        before, self._spent_ns = self._spent_ns, self._host_time_ns()
        spent = self._spent_ns - before if before is not None else REST_NS
        rests = spent + self._earlier_ns < REST_NS and not _has_children()
        self._earlier_ns = max(0, spent)
        if not rests:
            self.since_ns = None
        elif self.since_ns is None:
            self.since_ns = now_ns


def _has_children() -> bool:
    """Whether this process has children by `multiprocessing`, which may compute with tensors that it shares."""
    module: Any = sys.modules.get(CHILDREN)
    return bool(getattr(module, "_children", None)) if module is not None else False
