"""The interface of a mechanism that observes calls; each is for certain Python versions."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple, Protocol

from gpumodels.support.never_pickled import never_pickled

Started = Callable[[FrameType], None]
Returned = Callable[[FrameType, Any], None]


@never_pickled
class Observation(NamedTuple):
    """The callbacks for one observed function."""

    what: str
    """What the callbacks do, for the log: `noting what torch.load read`."""
    started: Started | None
    """Given the call's frame, before the function's first statement."""
    returned: Returned | None
    """Given the call's frame and its result; not called when the function raises."""


class Mechanism(Protocol):
    """Observes functions until `remove` is called."""

    def observe(self, function: FunctionType, observation: Observation) -> None:
        """Call the observation's callbacks at every call of the function from now on.

        Raises:
            ValueError: this function can't be observed; the text says why.
        """

    def remove(self) -> None:
        """Stop observing, and leave every function as it was."""

    @staticmethod
    def entries() -> tuple[CodeType, ...]:
        """The code objects that the host's threads enter when an observed function is called."""
