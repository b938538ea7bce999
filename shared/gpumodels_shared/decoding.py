"""Decodes snapshots, checking first the shape, then the types, then what types can't express. Only the viewer loads it: it
needs msgspec.

A payload is from another process, which may be hostile: whatever it holds, the result is a Snapshot or a DecodeError, quickly and
in little memory. So nothing is built before every length is known to be filled by actual bytes (`payload_shape`), and then only
what the schema defines: a value of a wrong type ends the decoding at once, and unknown fields are skipped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from types import GenericAlias
from typing import Annotated, Any, Final, get_type_hints

import msgspec

from gpumodels_shared.payload_shape import DecodeError as DecodeError  # callers know it from here
from gpumodels_shared.payload_shape import check_shape
from gpumodels_shared.schema import LayerTree, Model, Snapshot

MAX_ENTRIES: Final = 400_000
"""The most entries in a column of a layer tree: ten times the modules of the largest known models."""

MAX_LISTED: Final = 10_000
"""The most models, warnings, arguments, files and the like in a single list or map."""

_Listed = Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_LISTED)]
_Mapped = Annotated[dict[str, msgspec.Raw], msgspec.Meta(max_length=MAX_LISTED)]


class _ProcessOutline(msgspec.Struct, gc=False):
    command: _Listed = msgspec.field(default_factory=list)


class _FingerprintOutline(msgspec.Struct, gc=False):
    samples: _Listed


class _ModelOutline(msgspec.Struct, gc=False):
    class_name: msgspec.Raw
    loaded_at_ns: msgspec.Raw
    bytes_by_device: _Mapped
    dtypes: _Mapped
    files: _Listed = msgspec.field(default_factory=list)
    file_stamps: _Listed = msgspec.field(default_factory=list)
    candidates: _Listed = msgspec.field(default_factory=list)
    adapters: _Listed = msgspec.field(default_factory=list)
    shares_with: _Listed = msgspec.field(default_factory=list)
    fingerprint: _FingerprintOutline | None = None
    metadata: _Mapped = msgspec.field(default_factory=dict)


class _DeviceOutline(msgspec.Struct, gc=False):
    device: msgspec.Raw
    models_bytes: msgspec.Raw
    held_by_functions: _Mapped = msgspec.field(default_factory=dict)


class _StageOutline(msgspec.Struct, gc=False):
    id: msgspec.Raw
    started_at_ns: msgspec.Raw
    files: _Listed = msgspec.field(default_factory=list)


class _OutOfMemoryOutline(msgspec.Struct, gc=False):
    at_ns: msgspec.Raw
    parts: _Mapped = msgspec.field(default_factory=dict)
    models: _Listed = msgspec.field(default_factory=list)
    recent: _Listed = msgspec.field(default_factory=list)


class _Outline(msgspec.Struct, gc=False):
    """The lists that are never long in an honest snapshot, with a limit: four million warnings would fit into a payload.

    Fields that have no default in the schema have none here, so that a value that isn't a model is refused early.
    """

    process: _ProcessOutline
    devices: Annotated[list[_DeviceOutline], msgspec.Meta(max_length=MAX_LISTED)] = msgspec.field(default_factory=list)
    models: Annotated[list[_ModelOutline], msgspec.Meta(max_length=MAX_LISTED)] = msgspec.field(default_factory=list)
    warnings: _Listed = msgspec.field(default_factory=list)
    stages: Annotated[list[_StageOutline], msgspec.Meta(max_length=MAX_LISTED)] = msgspec.field(default_factory=list)
    out_of_memory: Annotated[list[_OutOfMemoryOutline], msgspec.Meta(max_length=MAX_LISTED)] = msgspec.field(default_factory=list)


def _with_other_types(schema: type, **types: Any) -> type[Any]:
    """A class with the fields and defaults of one of the schema's, but with other types for some of them."""
    hints = get_type_hints(schema) | types
    described: list[Any] = []
    for one in dataclasses.fields(schema):
        if one.default is not dataclasses.MISSING:
            described.append((one.name, hints[one.name], one.default))
        elif one.default_factory is not dataclasses.MISSING:
            described.append((one.name, hints[one.name], msgspec.field(default_factory=one.default_factory)))
        else:
            described.append((one.name, hints[one.name]))
    return msgspec.defstruct(schema.__name__, described)


_Model: Final = _with_other_types(Model, tree=msgspec.Raw)
_Snapshot: Final = _with_other_types(Snapshot, models=GenericAlias(tuple, (_Model, ...)))

_OUTLINE_DECODER: Final = msgspec.msgpack.Decoder(_Outline)
_DECODER: Final = msgspec.msgpack.Decoder(_Snapshot)
_TREE_DECODER: Final = msgspec.msgpack.Decoder(LayerTree)
_NIL: Final = b"\xc0"
_MODEL_FIELDS: Final = tuple(one.name for one in dataclasses.fields(Model))
_SNAPSHOT_FIELDS: Final = tuple(one.name for one in dataclasses.fields(Snapshot))


def decode(payload: bytes) -> Snapshot:
    """The snapshot that `encode` packed.

    Raises:
        DecodeError: too long, not msgpack, of other types than the schema's, or inconsistent.
    """
    snapshot, trees = decode_without_trees(payload)
    models = (
        dataclasses.replace(model, tree=decode_tree(trees[model.id])) if model.id in trees else model for model in snapshot.models
    )
    return dataclasses.replace(snapshot, models=tuple(models))


def decode_without_trees(payload: bytes) -> tuple[Snapshot, Mapping[str, bytes]]:
    """The snapshot without layer trees, and the trees as they are packed, by the model's id: few of them are ever opened.

    Raises:
        DecodeError: as for `decode`, except that trees only need to be msgpack.
    """
    check_shape(payload)
    try:
        _OUTLINE_DECODER.decode(payload)
        decoded = _DECODER.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not a snapshot: {str(error)[:200]}") from error
    packed: dict[str, bytes] = {}
    for model in decoded.models:
        if model.tree is not None and (tree := bytes(model.tree)) != _NIL:
            packed[model.id] = tree
        model.tree = None
    decoded.models = tuple(Model(*map(model.__getattribute__, _MODEL_FIELDS)) for model in decoded.models)
    snapshot = Snapshot(*map(decoded.__getattribute__, _SNAPSHOT_FIELDS))
    _check_numbers(snapshot)
    _check_identities(snapshot.models)
    return snapshot, packed


def decode_tree(packed: bytes) -> LayerTree:
    """A layer tree that `decode_without_trees` has left packed.

    Raises:
        DecodeError: of other types than the schema's, or inconsistent.
    """
    try:
        tree = _TREE_DECODER.decode(packed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not a layer tree: {str(error)[:200]}") from error
    _check_tree(tree)
    return tree


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
