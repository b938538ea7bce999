"""How much processor time may go into what nobody waits for: a share of one core, with something saved up, and some to borrow.

What changed is seen whatever was spent before (`Scanner`); that isn't asked about here, only counted. Names and looks at what
may have changed without a word wait until there is time for them again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gpumodels.support.resident import resident

RATE: Final = 0.002
"""Share of one core that comes in steadily."""
SAVINGS_SECONDS: Final = 0.25
"""The most that is saved up. With a minute's income, and the walk's, that is less than 1 % of a core over any minute."""


@resident
class Budget:
    """Something may begin while anything is left, whatever it takes; what it took too much is a debt."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._saved = SAVINGS_SECONDS
        self._at = clock()
        self.spent = 0.0
        """In all, seconds of processor time."""

    def allows(self, loan_seconds: float = 0.0) -> bool:
        """Whether something more may begin now; so much may be borrowed for it, which is paid off by all that may borrow less."""
        now = self._clock()
        self._saved = min(SAVINGS_SECONDS, self._saved + RATE * (now - self._at))
        self._at = now
        return self._saved > -loan_seconds

    def spend(self, seconds: float) -> None:
        """Something took so long."""
        self.spent += seconds
        self._saved -= seconds

    def charge(self, seconds: float) -> None:
        """What had to be seen took so long: what can wait, waits for that, but never long, and no name is lost by it."""
        self.spent += seconds
        self._saved = max(self._saved - seconds, min(self._saved, -SAVINGS_SECONDS))
