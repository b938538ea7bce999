"""What a way of observing calls must be able to do, whichever Python it is for."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple, Protocol

from gpumodels.support.resident import resident

Started = Callable[[FrameType], None]
Returned = Callable[[FrameType, Any], None]


@resident
class Observation(NamedTuple):
    """What is to be called for one function."""

    what: str
    """For the log: `noting what torch.load read`."""
    started: Started | None
    returned: Returned | None
    """Not called when the function raises."""


class Mechanism(Protocol):
    """One way of observing."""

    def observe(self, function: FunctionType, observation: Observation) -> None:
        """From now on.

        Raises:
            ValueError: this function can't be observed.
        """

    def remove(self) -> None:
        """Observe nothing any more, and leave no trace."""

    @staticmethod
    def entries() -> tuple[CodeType, ...]:
        """The code by which calls come in here."""
