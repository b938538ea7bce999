"""Asks ComfyUI's VBARs which of their pages are in a device's memory. These calls read tables in host memory: no driver call.

They are foreign code all the same: they may be missing, raise, or take long. What fails isn't asked again for a while.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gpumodels.support.failures import Failures
from gpumodels.support.instances import class_attribute, state_of
from gpumodels.support.never_pickled import never_pickled

PAGE_BYTES: Final = 32 * 1024**2
MOST_PAGES: Final = 1 << 16
"""Two terabytes; a VBAR has no more pages than its device has memory."""
RESIDENT: Final = 1
"""The flag of a page that is in memory."""
_RESIDENCY_OF_FLAGS: Final = bytes(flags & RESIDENT for flags in range(256))
ASK_AGAIN_SECONDS: Final = 60.0
SLOW_SECONDS: Final = 0.25
"""A busy host lets go of the interpreter only every few milliseconds, so that even quick calls may take some of these."""
REST_FACTOR: Final = 40
"""A VBAR that took long to answer isn't asked again before so many times as long have passed; its answer counts until then."""
CONTROL: Final = "comfy_aimdo.control"


@never_pickled
class Residency(NamedTuple):
    """What of a VBAR is in its device's memory."""

    pages: bytes | None
    """By page, RESIDENT or 0; None if only the sum is known. A model larger than its device has more weights than pages."""
    loaded_bytes: int
    """All its pages in memory, those beyond the model's weights included."""

    def share(self, start: int, size: int, used: int) -> float:
        """Which part, 0 to 1, of a range of addresses is in memory; if only the sum is known, that of all.

        Args:
            start: where the range begins, from the VBAR's own beginning.
            size: its length, positive.
            used: how many bytes of the VBAR are in use at all.
        """
        if self.pages is None:
            in_pages = max(used, start + size) + PAGE_BYTES - 1
            return min(1.0, self.loaded_bytes / (in_pages - in_pages % PAGE_BYTES))
        end, covered = start + size, 0
        for page in range(start // PAGE_BYTES, min((end - 1) // PAGE_BYTES + 1, len(self.pages))):
            if self.pages[page]:
                covered += min(end, (page + 1) * PAGE_BYTES) - max(start, page * PAGE_BYTES)
        return covered / size


@never_pickled
class PageInquirer:
    """Asks VBARs, and remembers which of them can't be asked for now."""

    def __init__(self, failures: Failures, clock: Callable[[], float]) -> None:
        self._failures = failures
        self._clock = clock
        self._not_before: dict[int, tuple[float, Residency | None]] = {}
        """By `id()` of a VBAR that failed or was slow, when to ask it again, and what it is believed to have until then."""

    def ask(self, vbar: Any) -> Residency | None:
        """What of it is in memory; None if it can't be asked or believed. The caller holds it, and lets go of it afterwards."""
        key, now = id(vbar), self._clock()
        if is_freed(vbar):
            return Residency(b"", 0)
        if is_torn_down():
            return None
        until, answer = self._not_before.get(key, (now, None))
        if until > now:
            return answer
        began, residency = time.perf_counter(), None
        with self._failures.guard("asking which pages of a model are in memory"):
            residency = _asked(vbar)
        seconds = time.perf_counter() - began
        if residency is None:
            self._not_before[key] = now + ASK_AGAIN_SECONDS, None
        elif seconds > SLOW_SECONDS:
            self._not_before[key] = now + REST_FACTOR * seconds, residency
        else:
            self._not_before.pop(key, None)
        return residency

    def forget_all_but(self, vbars: set[int]) -> None:
        """Forget what failed of VBARs that are no more; others may get their ids."""
        if self._not_before:
            self._not_before = {key: rest for key, rest in self._not_before.items() if key in vbars}


def is_freed(vbar: Any) -> bool:
    """Whether its memory was returned already, so that it must not be asked: its library doesn't check that."""
    state = state_of(vbar)
    return "_ptr" in state and not state["_ptr"]


def is_torn_down() -> bool:
    """Whether the library of all VBARs has ended, as it does on request."""
    control = sys.modules.get(CONTROL)
    return control is not None and state_of(control).get("lib", True) is None


def _asked(vbar: Any) -> Residency | None:
    kind = type(vbar)
    loaded: int | None = None
    if class_attribute(kind, "loaded_size") is not None:
        loaded = _number(vbar.loaded_size())
    if class_attribute(kind, "get_residency") is None:
        return None if loaded is None else Residency(None, loaded)
    if class_attribute(kind, "get_nr_pages") is not None and _number(vbar.get_nr_pages()) > MOST_PAGES:
        raise ValueError("more pages than any device has")
    flags = vbar.get_residency()
    if type(flags) not in (list, bytes, bytearray, tuple) or len(flags) > MOST_PAGES:
        raise TypeError("the flags of its pages are no list")
    pages = bytes(flags).translate(_RESIDENCY_OF_FLAGS)
    return Residency(pages, sum(pages) * PAGE_BYTES if loaded is None else loaded)


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"expected a count, not {type(value).__name__}")
    return value
