"""Whether the host's threads are busy right now. If so, the sidecar spreads its work thinly; otherwise it finishes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gpumodels.support.never_pickled import never_pickled

BUSY_SHARE: Final = 0.1
"""Share of a core above which the process's other threads count as busy."""
BUSY_WINDOW_SECONDS: Final = 0.01


@never_pickled
class OtherThreads:
    """Measures how much CPU time the other threads of the process took lately. Only one thread may ask, about all others."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        process_seconds: Callable[[], float] = time.process_time,
        own_seconds: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock = clock
        self._process_seconds = process_seconds
        self._own_seconds = own_seconds
        self._at, self._spent = float("-inf"), 0.0
        self._are_busy = True

    def are_busy(self) -> bool:
        """Whether they were busy since the previous call, or over the last BUSY_WINDOW_SECONDS where that is longer."""
        now = self._clock()
        if now - self._at >= BUSY_WINDOW_SECONDS:
            spent = self._process_seconds() - self._own_seconds()
            self._are_busy = spent - self._spent > BUSY_SHARE * (now - self._at) or self._at == float("-inf")
            self._at, self._spent = now, spent
        return self._are_busy
