"""Bytes to snapshots: limits on every length, then types, then what types can't say. Needs msgspec, so only the viewer loads it.

A payload comes from another process, perhaps a hostile one: whatever it holds, the outcome is a Snapshot or a DecodeError.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import msgpack
import msgspec

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES
from gpumodels_shared.schema import LayerTree, Snapshot

MAX_ENTRIES: Final = 400_000
"""Longest array or map: ten times the modules of the largest models known."""

MAX_TEXT_BYTES: Final = 1024 * 1024


class DecodeError(ValueError):
    """The payload is not a snapshot; the text says why, in one line."""


def decode(payload: bytes) -> Snapshot:
    """The snapshot that `encode` packed.

    Raises:
        DecodeError: too long, not msgpack, of other types than the schema's, or inconsistent.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise DecodeError(f"payload of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}")
    try:
        raw: Any = msgpack.unpackb(
            payload,
            use_list=False,
            strict_map_key=True,
            max_str_len=MAX_TEXT_BYTES,
            max_bin_len=0,
            max_ext_len=0,
            max_array_len=MAX_ENTRIES,
            max_map_len=MAX_ENTRIES,
        )
    except RecursionError as error:
        raise DecodeError("nested too deep") from error
    except (ValueError, TypeError, KeyError, MemoryError, OverflowError, msgpack.UnpackException) as error:
        raise DecodeError(f"not msgpack within limits: {type(error).__name__}: {str(error)[:200]}") from error
    try:
        snapshot: Snapshot = msgspec.convert(raw, Snapshot)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DecodeError(f"not a snapshot: {str(error)[:200]}") from error
    for model in snapshot.models:
        if model.layers < 0 or model.parameters < 0 or model.offloaded_bytes < 0 or model.shared_bytes < 0:
            raise DecodeError("a model has a negative count")
        if any(count < 0 for count in (*model.bytes_by_device.values(), *model.dtypes.values())):
            raise DecodeError("a model has negative bytes")
        if model.tree is not None:
            _check_tree(model.tree)
    for device in snapshot.devices:
        if device.models_bytes < 0 or (device.total_bytes or 0) < 0 or (device.allocated_bytes or 0) < 0:
            raise DecodeError("a device has negative bytes")
    return snapshot


def _check_tree(tree: LayerTree) -> None:
    """Columns of one length, depths that make one tree, indices that exist, bytes that can be."""
    count = len(tree.names)
    if not len(tree.depths) == len(tree.classes) == len(tree.parameters) == count:
        raise DecodeError("a layer tree's columns differ in length")
    if count == 0:
        return
    if tree.depths[0] != 0 or any(not 0 < deeper <= above + 1 for above, deeper in pairwise(tree.depths)):
        raise DecodeError("a layer tree's depths make no tree")
    if min(tree.classes) < 0 or max(tree.classes) >= len(tree.class_names) or min(tree.parameters) < 0:
        raise DecodeError("a layer tree names a class it doesn't have")
    devices, dtypes = len(tree.devices), len(tree.dtypes)
    for entries in (tree.memory, tree.shared):
        for layer, device, dtype, size in entries:
            if not (0 <= layer < count and 0 <= device < devices and 0 <= dtype < dtypes and size >= 0):
                raise DecodeError("a layer tree's memory points outside it")
