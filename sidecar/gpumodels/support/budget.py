"""The CPU budget for background work: a share of one core, of which some can be saved up and some borrowed.

Changes that raised an event are always scanned at once (`Scanner`): their cost is charged here, but needs no permission. Naming,
and scans for changes that raise no event, wait until the budget allows them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gpumodels.support.never_pickled import never_pickled

RATE: Final = 0.002
"""The steady income: CPU seconds per second, as a share of one core."""
SAVINGS_SECONDS: Final = 0.25
"""The most that is saved up. Together with a minute's income, and the walk's, it is less than 1 % of a core over any minute."""


@never_pickled
class Budget:
    """Work may begin while anything is left, however long it then takes; overspending becomes a debt."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._saved = SAVINGS_SECONDS
        self._at = clock()
        self.spent = 0.0
        """CPU seconds spent so far, all in all."""

    def allows(self, loan_seconds: float = 0.0) -> bool:
        """Whether more work may begin now.

        Args:
            loan_seconds: how far into debt this work may go. Work with a smaller loan then waits until the debt is paid off.
        """
        now = self._clock()
        self._saved = min(SAVINGS_SECONDS, self._saved + RATE * (now - self._at))
        self._at = now
        return self._saved > -loan_seconds

    def spend(self, seconds: float) -> None:
        """Record CPU seconds of work that `allows` permitted."""
        self.spent += seconds
        self._saved -= seconds

    def charge(self, seconds: float) -> None:
        """Record CPU seconds of work that couldn't wait. It delays other work by a debt of at most SAVINGS_SECONDS."""
        self.spent += seconds
        self._saved = max(self._saved - seconds, min(self._saved, -SAVINGS_SECONDS))
