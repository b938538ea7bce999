"""Which process and which model of one document is which of the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

from gpumodels_tui.comparing.documents import Document, Model, Process

T = TypeVar("T")


def paired(before: Sequence[T], after: Sequence[T], key: Callable[[T], Hashable]) -> Iterator[tuple[T, T]]:
    """Those with the same key, in their order. What has the key None has no other."""
    left: dict[Hashable, deque[T]] = {}
    for one in after:
        if (its := key(one)) is not None:
            left.setdefault(its, deque()).append(one)
    for one in before:
        if (its := key(one)) is not None and left.get(its):
            yield one, left[its].popleft()


def processes(before: Document, after: Document) -> Iterator[tuple[Process | None, Process | None, bool]]:
    """Each process before and after, None where it isn't there, and whether it is the same one and not another run of it."""
    old, new = list(before.processes), list(after.processes)
    if before.host == after.host:
        pairs = list(paired(old, new, lambda one: (one.pid, one.started_at)))
        old, new = _without(old, new, pairs)
        yield from ((*pair, True) for pair in pairs)
        # Of a process that could not be read nothing but its pid is known.
        pairs = [pair for pair in paired(old, new, lambda one: one.pid) if None in (pair[0].started_at, pair[1].started_at)]
        old, new = _without(old, new, pairs)
        yield from ((*pair, True) for pair in pairs)
    pairs = list(paired(old, new, _run))
    old, new = _without(old, new, pairs)
    yield from ((*pair, False) for pair in pairs)
    yield from ((one, None, False) for one in old)
    yield from ((None, one, False) for one in new)


def models(before: Sequence[Model], after: Sequence[Model], *, same_process: bool) -> Iterator[tuple[Model | None, Model | None]]:
    """Each model before and after, None where it isn't there. Within one process an id tells; else its files, or what it is."""
    old, new = list(before), list(after)
    keys: list[Callable[[Model], Hashable]] = [lambda one: tuple(sorted(one.files)) or None, _description]
    if same_process:
        keys.insert(0, lambda one: one.id)
    for key in keys:
        pairs = list(paired(old, new, key))
        old, new = _without(old, new, pairs)
        yield from pairs
    yield from ((one, None) for one in old)
    yield from ((None, one) for one in new)


def _without(old: Sequence[T], new: Sequence[T], pairs: Sequence[tuple[T, T]]) -> tuple[list[T], list[T]]:
    """Those that are in no pair."""
    taken = {id(one) for pair in pairs for one in pair}
    return [one for one in old if id(one) not in taken], [one for one in new if id(one) not in taken]


def _run(process: Process) -> Hashable:
    if process.label is None:
        return None
    return process.user, process.label, None if process.job is None else process.job.rank


def _description(model: Model) -> Hashable:
    if model.files or model.parameters is None:
        return None
    return model.name, model.kind, model.class_name, model.parameters, model.layers
