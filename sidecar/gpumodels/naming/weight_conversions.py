"""Which tensors of its file a parameter was made of, where transformers 5 converted them while loading: fused, stacked, renamed.

A model that was loaded so keeps the conversions that were used in `_weight_conversions`: patterns of names, and operations. They
are read, not run. A parameter is then compared part by part, under the names that the parts have in the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gpumodels.provenance.host_samples import TensorPart
from gpumodels.support.instances import is_a, name_of, values_of
from gpumodels.support.never_pickled import never_pickled

ATTRIBUTE: Final = "_weight_conversions"
MAX_CONVERSIONS: Final = 512
MAX_PARTS: Final = 4096
"""The most parts of one parameter: a thousand experts with a few matrices each."""

_KEEP_FIRST_ROW: Final = frozenset({"Chunk", "Split", "Concatenate", "PermuteForRope"})
"""Operations that, along the first dimension, leave a tensor beginning with a row of the file: it is compared as it is."""


@never_pickled
class FilePart(NamedTuple):
    """A part of a parameter that is, or was, a tensor of its own in the file."""

    key: str
    """Its name in the file, as far as the conversions tell."""
    part: TensorPart | None
    """Where it lies in the parameter; None: it is the parameter."""


@never_pickled
@dataclass(frozen=True, slots=True)
class _Renaming:
    """Part of a name in the file, and what it became in the model."""

    in_file: str
    in_model: re.Pattern[str]


@never_pickled
@dataclass(frozen=True, slots=True)
class _Operation:
    """What was done with tensors: the name of its class, and along which dimension."""

    name: str
    dimension: int | None


@never_pickled
@dataclass(frozen=True, slots=True)
class _Converter:
    """How parameters with some names were made of tensors with others."""

    in_file: tuple[str, ...]
    """The sources' patterns: `*` stands for a number."""
    targets: tuple[re.Pattern[str], ...]
    operations: tuple[_Operation, ...]
    scope: tuple[str, ...]
    """Prefixes of which a name must have one."""


@never_pickled
class WeightConversions:
    """The conversions that a library used while it loaded a model."""

    def __init__(self, renamings: Sequence[_Renaming], converters: Sequence[_Converter]) -> None:
        self._renamings = renamings
        self._converters = converters

    def parts_of(self, key: str, shape: tuple[int, ...]) -> tuple[FilePart, ...]:
        """What the parameter was made of; empty where its values can't be compared with the file's.

        Args:
            key: its name in the state dict of the model that has these conversions.
            shape: its shape.
        """
        for converter in self._converters:
            if converter.scope and not key.startswith(converter.scope):
                continue
            for target in converter.targets:
                place = target.search(key)
                if place is not None:
                    parts = _parts(converter, shape)
                    if parts is None:
                        return (FilePart(self._in_file(key), None),)
                    before, after = key[: place.start()], key[place.end() :]
                    return tuple(FilePart(self._in_file(f"{before}{name}{after}"), part) for name, part in parts)
        return (FilePart(self._in_file(key), None),)

    def _in_file(self, key: str) -> str:
        for renaming in self._renamings:
            if (place := renaming.in_model.search(key)) is not None:
                key = f"{key[: place.start()]}{renaming.in_file}{key[place.end() :]}"
        return key


def conversions_of(state: Mapping[str, Any]) -> WeightConversions | None:
    """The conversions in a module's instance dictionary; None where it has none."""
    stated = state.get(ATTRIBUTE)
    if not stated or not is_a(stated, list):
        return None
    renamings: list[_Renaming] = []
    converters: list[_Converter] = []
    for transform in list.__iter__(stated[:MAX_CONVERSIONS]):
        values = dict(values_of(transform))
        sources, targets = _texts(values.get("source_patterns")), _texts(values.get("target_patterns"))
        if "operations" in values:
            converters.append(_converter(sources, targets, values))
        elif len(sources) == len(targets) == 1 and (renaming := _renaming(sources[0], targets[0])) is not None:
            renamings.insert(0, renaming)  # the last one that was applied is the first to be reversed
    return WeightConversions(renamings, converters)


def _converter(sources: Sequence[str], targets: Sequence[str], values: Mapping[str, Any]) -> _Converter:
    scopes = [values.get(name) for name in ("base_model_prefix", "scope_prefix")]
    base, scope = (f"{prefix}." if type(prefix) is str and prefix else "" for prefix in scopes)
    return _Converter(
        in_file=tuple(_plain(source) or "" for source in sources),
        targets=tuple(re.compile(_pattern(target)) for target in targets),
        operations=tuple(map(_operation, values["operations"] if is_a(values["operations"], list) else ())),
        scope=(scope, base + scope) if scope else (),
    )


def _operation(operation: Any) -> _Operation:
    dimension = dict(values_of(operation)).get("dim")
    return _Operation(name_of(type(operation)), dimension if type(dimension) is int else None)


def _renaming(source: str, target: str) -> _Renaming | None:
    in_file, in_model = _plain(source), _plain(target)
    if in_file is None or not in_model or "*" in in_file:
        return None
    start = "^" if source.startswith("^") else "" if in_model.startswith(".") else r"(?<![^.])"
    return _Renaming(in_file, re.compile(start + _pattern(in_model)))


def _parts(converter: _Converter, shape: tuple[int, ...]) -> Sequence[tuple[str, TensorPart]] | None:
    """Names and places of the parts; None where the parameter is compared as it is, empty where it can't be compared."""
    sources, operations = converter.in_file, converter.operations
    first = operations[0] if operations else None
    if first is not None and first.name == "MergeModulelist" and first.dimension == 0 and len(shape) > 1:
        return _stacked(sources, operations[1:], shape)
    if all(operation.name in _KEEP_FIRST_ROW and not operation.dimension for operation in operations):
        return None
    if len(operations) == 1 and first is not None and first.name == "Interleave" and first.dimension != len(shape) - 1:
        return [(sources[0], TensorPart(0, shape))]  # rows changed places: the first one is still the first
    return ()


def _stacked(sources: Sequence[str], then: Sequence[_Operation], shape: tuple[int, ...]) -> Sequence[tuple[str, TensorPart]]:
    """The parts of tensors that were stacked, and the stacks joined side by side along the second dimension."""
    is_joined = len(then) == 1 and then[0].name == "Concatenate" and then[0].dimension == 1
    count, height = shape[0], shape[1]
    if (then or len(sources) != 1) and not is_joined:
        return ()
    if not all("*" in source for source in sources) or height % len(sources) or count * len(sources) > MAX_PARTS:
        return ()
    part_shape = (height // len(sources), *shape[2:])
    size = math.prod(part_shape)
    return [
        (source.replace("*", str(number)), TensorPart((number * len(sources) + position) * size, part_shape))
        for number in range(count)
        for position, source in enumerate(sources)
    ]


def _pattern(target: str) -> str:
    """A regular expression for a target in a model's key, where it ends with a name."""
    text = ".+?".join(re.escape(part) for part in target.removeprefix("^").replace("\\.", ".").split("\\1"))
    return text + r"(?!\w)" if re.search(r"\w$", target) else text


def _plain(pattern: str) -> str | None:
    """The text that a pattern stands for, with `*` in it; None for other regular expressions."""
    text = pattern.removeprefix("^").replace("\\.", ".")
    return None if re.search(r"[\\()\[\]{}+?|$^]", text) else text


def _texts(patterns: Any) -> tuple[str, ...]:
    return tuple(text for text in list.__iter__(patterns) if type(text) is str) if is_a(patterns, list) else ()
