"""Work in slices: so long, and then the host's threads have the interpreter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

SLICE_SECONDS: Final = 0.0012
"""How long a slice works before it pauses."""

Item = TypeVar("Item")


def in_slices(steps: Iterator[None], pause: Callable[[], None]) -> None:
    """Run the steps, with a pause whenever a slice's time is over."""
    until = time.perf_counter() + SLICE_SECONDS
    for _ in steps:
        if time.perf_counter() >= until:
            pause()
            until = time.perf_counter() + SLICE_SECONDS


def batched(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    """So many at a time: steps that are worth a look at the clock each."""
    waiting = iter(items)
    while some := list(islice(waiting, count)):
        yield some
