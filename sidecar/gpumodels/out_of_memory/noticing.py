"""Notices errors of failed allocations where they end: in a thread, in the main module, at a boundary of the host.

Nothing is done in the host's thread but to read the error's message. No exception is kept: its traceback holds the host's frames,
and they hold its tensors.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import FrameType, ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.observing.observers import Observers
from gpumodels.out_of_memory.error_messages import Told, read_message
from gpumodels.support.failures import Failures
from gpumodels.support.instances import is_a, mro_of, name_of
from gpumodels.support.never_pickled import never_pickled

MAX_NOTICED: Final = 64
MAX_CHAIN: Final = 8
"""Causes of an exception that are looked at."""
OF_TORCH: Final = "OutOfMemoryError"
_arguments_of: Final[Callable[[Any], tuple[Any, ...]]] = vars(BaseException)["args"].__get__
_cause_of: Final[Callable[[Any], Any]] = vars(BaseException)["__cause__"].__get__
_context_of: Final[Callable[[Any], Any]] = vars(BaseException)["__context__"].__get__


@never_pickled
class Noticed(NamedTuple):
    """A failed allocation, as the host's own error tells of it."""

    at_ns: int
    """Realtime nanoseconds."""
    told: Told


@never_pickled
class MemoryErrors:
    """The errors since they were last taken. Errors are noted in any thread, and taken in the sidecar's."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self._noticed: deque[Noticed] = deque(maxlen=MAX_NOTICED)
        self._last_seen = id(_last_uncaught())
        self._noted: deque[int] = deque(maxlen=MAX_NOTICED)
        """Exceptions that were noted, by identity: one may pass several boundaries."""

    def observe(self, observers: Observers) -> None:
        """Be told of errors that end a thread: from Python 3.12 on, where the code that all threads share can be observed.

        `threading.excepthook` itself stays as it is, since the host and its tools compare it with what they set.
        """
        make = getattr(threading, "_make_invoke_excepthook", None)
        if sys.version_info >= (3, 12) and make is not None:
            observers.observe(make(), "noting an error that ends a thread", self._thread_fails)

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """Nothing is waited for."""
        return {}

    def types(self) -> set[type]:
        """No objects are searched for."""
        return set()

    def add_all(self, found: Iterable[Any]) -> None:
        """Nothing was searched for."""

    def note(self, error: Any) -> None:
        """Note the error, if it or what caused it is a failed allocation."""
        with self._failures.guard("noting an out-of-memory error"):
            for _ in range(MAX_CHAIN):
                if not is_a(error, BaseException):
                    return
                told = _told_by(error)
                if told is not None:
                    key = id(error)
                    if key not in self._noted:
                        self._noted.append(key)
                        self._noticed.append(Noticed(time.time_ns(), told))
                    return
                error = _cause_of(error) or _context_of(error)

    def take(self) -> list[Noticed]:
        """The errors since the last call, in their order."""
        with self._failures.guard("looking at uncaught errors"):
            self._look_at_uncaught()
        taken = [self._noticed.popleft() for _ in range(len(self._noticed))]
        if not taken:
            self._noted.clear()  # their identities may be those of others by now
        return taken

    def has_any(self) -> bool:
        """Whether `take` would give any."""
        with self._failures.guard("looking at uncaught errors"):
            self._look_at_uncaught()
        return bool(self._noticed)

    def _look_at_uncaught(self) -> None:
        """Python and IPython keep the last error that nobody caught; it is compared by identity only, and never kept."""
        error = _last_uncaught()
        if error is not None and id(error) != self._last_seen:
            self._last_seen = id(error)
            self.note(error)

    def _thread_fails(self, _frame: FrameType) -> None:
        self.note(sys.exc_info()[1])


def _last_uncaught() -> Any:
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def _told_by(error: BaseException) -> Told | None:
    """What the exception itself tells. None of its class's code runs."""
    arguments = _arguments_of(error)
    text = arguments[0] if arguments and type(arguments[0]) is str else ""
    names = {name_of(kind) for kind in mro_of(type(error))}
    if OF_TORCH in names or is_a(error, MemoryError):
        told = read_message(text, is_memory_error=True)
        return told._replace(device="cpu") if told is not None and told.device is None and is_a(error, MemoryError) else told
    return read_message(text, is_memory_error=False) if is_a(error, RuntimeError) else None
