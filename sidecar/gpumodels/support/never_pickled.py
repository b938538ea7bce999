"""Keeps the sidecar's objects out of the host's pickles and copies."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

Kind = TypeVar("Kind", bound=type)


def never_pickled(kind: Kind) -> Kind:
    """Decorator for every class of the sidecar: its objects can be neither pickled nor copied."""
    decorated: Any = kind
    decorated.__reduce_ex__ = _refuse
    return kind


def _refuse(instance: object, _protocol: object) -> NoReturn:
    """`__reduce_ex__`, which pickle, copy, cloudpickle and multiprocessing call first.

    Raises:
        TypeError: always.
    """
    name = f"{type(instance).__module__}.{type(instance).__qualname__}"
    raise TypeError(f"{name} belongs to the process that it watches; it is never copied or pickled")
