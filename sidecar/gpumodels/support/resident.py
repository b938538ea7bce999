"""What belongs to this process alone: no object of the sidecar's travels in a pickle or a copy of the host's."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

Kind = TypeVar("Kind", bound=type)


def resident(kind: Kind) -> Kind:
    """Decorates every class of the sidecar's: its objects can be neither pickled nor copied."""
    made: Any = kind
    made.__reduce_ex__ = _refuse
    return kind


def _refuse(one: object, _protocol: object) -> NoReturn:
    """What pickle, copy, cloudpickle and multiprocessing ask first.

    Raises:
        TypeError: always.
    """
    raise TypeError(f"{type(one).__module__}.{type(one).__qualname__} belongs to the process that it watches; it is never copied")
