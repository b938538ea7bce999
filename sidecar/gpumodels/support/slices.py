"""Work in time slices, with pauses in which the host's threads get the interpreter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

SLICE_SECONDS: Final = 0.0012
"""How long a slice works before it pauses."""

Item = TypeVar("Item")


def in_slices(steps: Iterator[None], pause: Callable[[], None]) -> None:
    """Run all steps, calling `pause` whenever SLICE_SECONDS have passed since the last pause."""
    until = time.perf_counter() + SLICE_SECONDS
    for _ in steps:
        if time.perf_counter() >= until:
            pause()
            until = time.perf_counter() + SLICE_SECONDS


def batched(items: Iterable[Item], count: int) -> Iterator[list[Item]]:
    """Lists of up to `count` items, so that the clock need not be read after every item."""
    iterator = iter(items)
    while batch := list(islice(iterator, count)):
        yield batch
