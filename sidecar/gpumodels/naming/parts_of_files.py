"""Whether a model is a file's, or made of a part of it and of something else, as a ControlNet is of a UNet's first blocks.

Only places are compared, no values: what is in the same module under another name was renamed, fused or quantized.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final

UNUSED_FROM: Final = 0.4
"""A model that adds something to a part of a file isn't that file, if so much of the file's elements has no place in it.

A ControlNet takes about half of its UNet. A head that is left out for another one is less.
"""
PATH_LEVELS: Final = 3
"""How far above a tensor the modules are that say where it is: `experts.0.gate_proj.weight` is in `experts`."""
MAX_ALIKE: Final = 64
"""Of the tensors that have equal names, as all `q_proj.weight`, so many are looked at."""

MAX_PREFIXES: Final = 8


def is_made_of_a_part(keys: Set[str], file_elements: Mapping[str, int]) -> bool:
    """Whether the model has parts that the file doesn't have, and lacks much of what the file has beside its other parts.

    Args:
        keys: of the model's tensors.
        file_elements: the number of elements of each of the file's tensors, by key.
    """
    below = [
        {key[len(prefix) :]: count for key, count in file_elements.items() if key.startswith(prefix)}
        for prefix in _prefixes(keys, file_elements)
    ]
    if not below:
        return False  # all were renamed
    # A head beside the body has no prefix where the body has one: what counts is where most of the model has its place.
    in_file = max(below, key=lambda one: _placed(keys, _places(one)))
    places = _places(keys)
    if _placed(keys, _places(in_file)) == len(keys):
        return False
    unused = sum(count for key, count in in_file.items() if places.isdisjoint(_places_of(key)))
    return unused >= UNUSED_FROM * sum(in_file.values())


def _placed(keys: Iterable[str], places: Set[str]) -> int:
    return sum(not places.isdisjoint(_places_of(key)) for key in keys)


def _prefixes(keys: Set[str], in_file: Iterable[str]) -> Sequence[str]:
    """What the file's keys begin with before keys of the model's, some of it; empty if none of these is in it under its name."""
    by_end: dict[str, list[str]] = {}
    for key in keys:
        by_end.setdefault(_end_of(key), []).append(key)
    found: dict[str, None] = {}
    for longer in in_file:
        for key in by_end.get(_end_of(longer), ())[:MAX_ALIKE]:
            if longer == key or longer.endswith("." + key):
                found[longer[: -len(key)]] = None
        if len(found) >= MAX_PREFIXES:
            break
    return list(found)


def _end_of(key: str) -> str:
    return ".".join(key.rsplit(".", 2)[-2:])


def _places(keys: Iterable[str]) -> set[str]:
    return {place for key in keys for place in _places_of(key)}


def _places_of(key: str) -> Sequence[str]:
    """The modules that say where a tensor is: its own, and those above it; for a tensor of the model itself, its own name."""
    found: list[str] = []
    above = key
    for _ in range(PATH_LEVELS):
        above, _, _ = above.rpartition(".")
        if above:
            found.append(above)
    return found or [key]
