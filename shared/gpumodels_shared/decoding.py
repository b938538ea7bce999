"""Decodes snapshots, checking first the shape, then the types, then what types can't express.

A payload is from another process, which may be hostile: whatever it holds, the result is a Snapshot or a DecodeError, quickly and
in little memory. So nothing is built before every length is known to be filled by actual bytes (`payload_shape`), and then only
what the schema defines: unknown fields are skipped, and what is built has few entries. Layer trees stay as they are packed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, Final, TypeAlias

import msgpack

from gpumodels_shared import schema
from gpumodels_shared.codec import MAX_PAYLOAD_BYTES
from gpumodels_shared.payload_shape import DecodeError as DecodeError  # callers know it from here
from gpumodels_shared.payload_shape import check_shape
from gpumodels_shared.records import field_names, replace
from gpumodels_shared.schema import LayerTree, Model, Snapshot

MAX_ENTRIES: Final = 400_000
"""The most entries in a column of a layer tree: ten times the modules of the largest known models."""

MAX_LISTED: Final = 10_000
"""The most models, warnings, arguments, files and the like in a single list or map."""

MAX_BUILT: Final = 200_000
"""The most entries of all lists and maps that are built for one snapshot."""

_NIL: Final = b"\xc0"

_Build: TypeAlias = Callable[[Any], Any]
_Field: TypeAlias = "tuple[frozenset[type], _Build | None]"
"""The types that msgpack may give a value, and what checks and builds the rest, unless it is None."""


def decode(payload: bytes) -> Snapshot:
    """The snapshot that `encode` packed.

    Raises:
        DecodeError: too long, not msgpack, of other types than the schema's, or inconsistent.
    """
    snapshot, trees = decode_without_trees(payload)
    models = (replace(model, tree=decode_tree(trees[model.id])) if model.id in trees else model for model in snapshot.models)
    return replace(snapshot, models=tuple(models))


def decode_without_trees(payload: bytes) -> tuple[Snapshot, Mapping[str, bytes]]:
    """The snapshot without layer trees, and the trees as they are packed, by the model's id: few of them are ever opened.

    Raises:
        DecodeError: as for `decode`, except that trees only need to be msgpack.
    """
    check_shape(payload)
    trees: dict[str, bytes] = {}
    try:
        snapshot = _snapshot(payload, trees)
    except DecodeError:
        raise
    except (TypeError, ValueError, RecursionError, msgpack.UnpackException) as error:
        raise DecodeError(f"not a snapshot: {str(error)[:200] or type(error).__name__}") from error
    _check_numbers(snapshot)
    _check_identities(snapshot.models)
    return snapshot, trees


def decode_tree(packed: bytes) -> LayerTree:
    """A layer tree that `decode_without_trees` has left packed.

    Raises:
        DecodeError: of other types than the schema's, or inconsistent.
    """
    import msgspec  # large, and only needed once layers are opened

    try:
        tree = msgspec.msgpack.decode(packed, type=LayerTree)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not a layer tree: {str(error)[:200]}") from error
    _check_tree(tree)
    return tree


def _snapshot(payload: bytes, trees: dict[str, bytes]) -> Snapshot:
    """The snapshot; its models' trees are added to `trees`."""
    built = 0

    def limited(entries: Any) -> Any:
        nonlocal built
        built += 1 + len(entries)
        if built > MAX_BUILT:
            raise DecodeError(f"more than {MAX_BUILT} entries of lists and maps")
        return entries

    unpacker = msgpack.Unpacker(
        None,
        use_list=False,
        max_buffer_size=MAX_PAYLOAD_BYTES,
        max_array_len=MAX_LISTED,
        max_map_len=MAX_LISTED,
        object_hook=limited,
        list_hook=limited,
    )
    unpacker.feed(payload)

    def models() -> Iterator[Model]:
        if (count := unpacker.read_array_header()) > MAX_LISTED:
            raise DecodeError(f"{count} models")
        for _ in range(count):
            packed = b""

            def tree() -> None:
                nonlocal packed
                start = unpacker.tell()
                unpacker.skip()
                packed = payload[start : unpacker.tell()]

            model = Model(**_unpacked(unpacker, Model, {"tree": tree}))
            if packed and packed != _NIL:
                trees[model.id] = packed
            yield model

    return Snapshot(**_unpacked(unpacker, Snapshot, {"models": lambda: tuple(models())}))


def _unpacked(unpacker: msgpack.Unpacker, kind: type[Any], special: Mapping[str, Callable[[], object]]) -> dict[str, Any]:
    """The fields of the class in the map that comes next, those of `special` by a function each, which takes the value itself."""
    fields = _fields(kind.__name__)
    found: dict[str, Any] = {}
    unpack = unpacker.unpack
    for _ in range(unpacker.read_map_header()):
        name = unpack()
        if name in special:
            found[name] = special[name]()
        elif (field := fields.get(name)) is None:
            unpacker.skip()
        elif type(value := unpack()) not in field[0]:  # as in _checked, which is too slow for what is most of a snapshot
            raise _other_type(name, value)
        else:
            found[name] = value if field[1] is None or value is None else field[1](value)
    return found


def _checked(name: str, value: Any, types: frozenset[type], build: _Build | None) -> Any:
    if type(value) not in types:
        raise _other_type(name, value)
    return value if build is None or value is None else build(value)


def _other_type(name: str, value: object) -> DecodeError:
    return DecodeError(f"not a snapshot: {name} is of type {type(value).__name__}")


@cache
def _fields(kind: str) -> Mapping[str, _Field]:
    """The fields of the schema's class of this name."""
    cls = getattr(schema, kind)
    return {name: _field(cls.__annotations__[name]) for name in field_names(cls)}


_PLAIN: Final[Mapping[str, _Field]] = {
    "str": (frozenset({str}), None),
    "int": (frozenset({int}), None),
    "float": (frozenset({float, int}), float),
    "bool": (frozenset({bool}), None),
    "bytes": (frozenset({bytes}), None),
}


@cache
def _field(hint: str) -> _Field:
    """What a field may hold whose type is written so in the schema."""
    if (plain := _PLAIN.get(hint)) is not None:
        return plain
    if (inner := hint.removesuffix(" | None")) != hint:
        types, build = _field(inner)
        return types | {type(None)}, build
    if (inner := hint.removeprefix("Mapping[str, ")) != hint:
        return frozenset({dict}), _mapping(*_field(inner[:-1]))
    if (inner := hint.removeprefix("tuple[")) != hint:
        if inner.endswith(", ...]"):
            return frozenset({tuple}), _row(*_field(inner.removesuffix(", ...]")))
        return frozenset({tuple}), _pair(tuple(map(_field, inner[:-1].split(", "))))
    return frozenset({dict}), _record(getattr(schema, hint))


def _mapping(types: frozenset[type], build: _Build | None) -> _Build:
    def mapping(values: dict[str, Any]) -> dict[str, Any]:
        if not values:
            return values
        if set(map(type, values)) - {str} or set(map(type, values.values())) - types:
            raise DecodeError("not a snapshot: a map with entries of other types")
        return values if build is None else {key: build(value) for key, value in values.items()}

    return mapping


def _row(types: frozenset[type], build: _Build | None) -> _Build:
    def row(values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:
            return values
        if set(map(type, values)) - types:
            raise DecodeError("not a snapshot: a list with entries of other types")
        return values if build is None else tuple(map(build, values))

    return row


def _pair(fields: tuple[_Field, ...]) -> _Build:
    def pair(values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(values) != len(fields):
            raise DecodeError(f"not a snapshot: {len(values)} entries where {len(fields)} belong")
        return tuple(_checked("an entry", value, *field) for value, field in zip(values, fields, strict=True))

    return pair


def _record(kind: type[Any]) -> _Build:
    def record(values: dict[str, Any]) -> Any:
        fields = _fields(kind.__name__)
        return kind(**{name: _checked(name, value, *fields[name]) for name, value in values.items() if name in fields})

    return record


def _check_numbers(snapshot: Snapshot) -> None:
    """Check that no count is negative, and that JSON can represent every number."""
    health = snapshot.health
    if not (_is_duration(snapshot.process.interval_seconds) and _is_duration(health.scan_seconds)):
        raise DecodeError("a duration is negative or not a number")
    if _any_negative((health.modules, health.failures, health.ignored_asks)):
        raise DecodeError("a negative count in the sidecar's health")
    for model in snapshot.models:
        counts = (model.layers, model.parameters, model.offloaded_bytes, model.shared_bytes)
        if _any_negative((*counts, model.pinned_bytes, model.managed_bytes or 0)):
            raise DecodeError("a model has a negative count")
        if _any_negative(model.bytes_by_device.values()) or _any_negative(model.dtypes.values()):
            raise DecodeError("a model has negative bytes")
        compared = (model.matched_samples, model.compared_samples, model.matched_tensors, model.compared_tensors)
        if _any_negative(count for count in compared if count is not None):
            raise DecodeError("a model has a negative count of tensors")
        if not 0 <= model.confidence <= 1:
            raise DecodeError("a model's confidence is not between 0 and 1")
    for device in snapshot.devices:
        sizes = (
            device.models_bytes,
            device.total_bytes,
            device.allocated_bytes,
            device.reserved_bytes,
            device.gradients_bytes,
            device.optimizer_bytes,
            device.cache_bytes,
            device.other_bytes,
            *device.held_by_functions.values(),
        )
        if _any_negative(size for size in sizes if size is not None):
            raise DecodeError("a device has negative bytes")
    for stage in snapshot.stages:
        measured = (stage.bytes_before, stage.bytes_after, stage.peak_bytes)
        if _any_negative(size for size in measured if size is not None):
            raise DecodeError("a stage has negative bytes")
    for failure in snapshot.out_of_memory:
        figures = (
            failure.requested_bytes,
            failure.allocated_bytes,
            failure.reserved_bytes,
            failure.free_bytes,
            failure.total_bytes,
        )
        held = (*failure.parts.values(), *(size for _, size in failure.models), *(size for *_, size in failure.recent))
        if _any_negative(size for size in (*figures, *held) if size is not None):
            raise DecodeError("an out-of-memory record has negative bytes")
    names = [device.device for device in snapshot.devices]
    if len(set(names)) < len(names):
        raise DecodeError("two devices have the same name")


def _check_identities(models: Iterable[Model]) -> None:
    """Check that model ids are unique, since rows are keyed by them, and that parents form no cycle."""
    parents: dict[str, str | None] = {}
    for model in models:
        if model.id in parents:
            raise DecodeError("two models have the same id")
        parents[model.id] = model.parent
    acyclic: set[str] = set()
    for start in parents:
        path: set[str] = set()
        current: str | None = start
        while current is not None and current not in acyclic:
            if current in path:
                raise DecodeError("a model is an ancestor of itself")
            path.add(current)
            current = parents.get(current)
        acyclic |= path


def _check_tree(tree: LayerTree) -> None:
    """Check that columns have the same length, depths form one tree, indices exist, and no size is negative."""
    count = len(tree.names)
    if max(count, len(tree.memory), len(tree.shared)) > MAX_ENTRIES:
        raise DecodeError(f"a layer tree has more than {MAX_ENTRIES} entries")
    if not len(tree.depths) == len(tree.classes) == len(tree.parameters) == count:
        raise DecodeError("a layer tree's columns differ in length")
    if tree.folded < 0:
        raise DecodeError("a layer tree has a negative count")
    if count > 0:
        if tree.depths[0] != 0 or any(not 0 < deeper <= above + 1 for above, deeper in pairwise(tree.depths)):
            raise DecodeError("a layer tree's depths don't form a tree")
        if min(tree.classes) < 0 or max(tree.classes) >= len(tree.class_names) or min(tree.parameters) < 0:
            raise DecodeError("a layer tree refers to a class that it doesn't list, or has a negative count")
    devices, dtypes = len(tree.devices), len(tree.dtypes)
    for entries in (tree.memory, tree.shared):
        for layer, device, dtype, size in entries:
            if not (0 <= layer < count and 0 <= device < devices and 0 <= dtype < dtypes and size >= 0):
                raise DecodeError("a layer tree's memory refers to an entry that it doesn't have, or is negative")


def _any_negative(counts: Iterable[int]) -> bool:
    return any(count < 0 for count in counts)


def _is_duration(seconds: float) -> bool:
    return math.isfinite(seconds) and seconds >= 0
