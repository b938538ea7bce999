"""How much processor time looking may take: a share of one core, with something saved up for when everything is new."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gpumodels.resident import resident

RATE: Final = 0.005
"""Share of one core that comes in steadily."""
SAVINGS_SECONDS: Final = 0.25
"""The most that is saved up. With a minute's income that is less than 1 % of a core over any minute."""
OVERDRAFT_SECONDS: Final = 0.6
"""What may be borrowed when modules came: a model that was just loaded is shown now, and paid off by later looks."""


@resident
class Budget:
    """A look may begin when there is as much as the last one took, or when nothing more could be saved."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._saved = SAVINGS_SECONDS
        self._at = clock()
        self.last_seconds = 0.0
        """What the last look took."""

    def allows(self, urgent: bool = False) -> bool:
        """Whether another look may begin now; an urgent one may borrow."""
        now = self._clock()
        self._saved = min(SAVINGS_SECONDS, self._saved + RATE * (now - self._at))
        self._at = now
        return self._saved + (OVERDRAFT_SECONDS if urgent else 0.0) >= min(self.last_seconds, SAVINGS_SECONDS)

    def spend(self, seconds: float) -> None:
        """A look took so long; more than was there is a debt that the next ones wait for."""
        self.last_seconds = seconds
        self._saved -= seconds

    def charge(self, seconds: float) -> None:
        """What came with looking, such as publishing, took so long."""
        self._saved -= seconds
