"""Divides a model's weights into what is in pages on its device, what is in host memory, and what is on disk only. Plain data."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from gpumodels.models.assembling import FoundModel
from gpumodels.models.page_residency import Residency
from gpumodels.support.never_pickled import never_pickled
from gpumodels.tensors.tensor_storages import META

HOST: Final = "cpu"
WEIGHTS_PER_STEP: Final = 16

TreeMemory = dict[tuple[int, str, str], int]
"""Bytes by row of the layer tree, device and dtype."""


@never_pickled
class Vbar(NamedTuple):
    """One VBAR as it was found."""

    key: int
    """Its `id()`."""
    device: str
    base: int
    used: int
    """How many bytes from its beginning modules have."""


@never_pickled
class PagedWeight(NamedTuple):
    """A storage of host memory, or on `meta`, in a model with dynamic memory."""

    row: int
    """In the layer tree."""
    device: str
    dtype: str
    size_bytes: int
    places: tuple[tuple[int, int, int], ...]
    """Where it may have a copy: a VBAR's key, the beginning and the size of the module's part of it."""
    copied_dtype: str
    copied_bytes: int
    """The size of that copy, which may be cast."""
    is_on_disk: bool
    """Whether it is mapped from a file, and read again when it is needed."""
    is_patch: bool = False
    """Whether it is a LoRA's, which has no pages of its own, but may have a copy in pinned memory."""


def divided(
    model: FoundModel,
    device: str,
    weights: Sequence[PagedWeight],
    pinned: Mapping[int, bool],
    vbars: Mapping[int, Vbar],
    residency: Mapping[int, Residency | None],
) -> Generator[None, None, FoundModel]:
    """The model with each byte where it is now. Yields wherever it may be interrupted.

    Args:
        model: as the scan found it.
        device: the device of its pages; empty if it has none yet.
        weights: those of its weights that the scan found in host memory or on `meta`.
        pinned: the rows whose weights have a copy in host memory, and whether that is page-locked.
        vbars: all VBARs, by key.
        residency: what of them is in memory; None for those that can't be asked.
    """
    tree = model.tree
    memory: TreeMemory = {}
    for row, position, dtype, size in tree.memory:
        _add(memory, (row, tree.devices[position], tree.dtypes[dtype]), size)
    unknown: set[int] = set()
    pinned_bytes = 0
    for count, weight in enumerate(weights):
        counted = weight.row, weight.device, weight.dtype
        size = min(weight.size_bytes, memory.get(counted, 0))
        share, on_device = _share(weight, vbars, residency, unknown)
        off = size - round(size * share)
        _add(memory, counted, -size)
        if share:
            on = size - off if weight.copied_bytes == weight.size_bytes else round(weight.copied_bytes * share)
            _add(memory, (weight.row, on_device, weight.copied_dtype), on)
        if off:
            is_pinned = pinned.get(weight.row) if weight.places or weight.is_patch else None
            elsewhere = HOST if is_pinned is not None else META if weight.is_on_disk else weight.device
            _add(memory, (weight.row, elsewhere, weight.dtype), off)
            pinned_bytes += off if is_pinned else 0
        if count % WEIGHTS_PER_STEP == 0:
            yield
    shown = with_memory(model, memory)
    yield
    return replace(shown, unread=model.unread + len(unknown), paged_onto=device, pinned_bytes=pinned_bytes)


def _share(
    weight: PagedWeight, vbars: Mapping[int, Vbar], residency: Mapping[int, Residency | None], unknown: set[int]
) -> tuple[float, str]:
    """Which part of it is on a device, 0 to 1, and on which; the keys of VBARs that can't be asked are added to `unknown`."""
    share, device = 0.0, ""
    for key, start, size in weight.places:
        known = residency.get(key)
        if known is None:
            unknown.add(key)
        elif (part := known.share(start, size, vbars[key].used)) > share:
            share, device = part, vbars[key].device
    return share, device


def _add(memory: TreeMemory, entry: tuple[int, str, str], size: int) -> None:
    memory[entry] = memory.get(entry, 0) + size


def with_memory(model: FoundModel, memory: TreeMemory) -> FoundModel:
    """The model with this memory in its layer tree and its sums."""
    tree = model.tree
    devices: dict[str, int] = {}
    dtypes: dict[str, int] = {}
    by_device: dict[str, int] = {}
    by_dtype: dict[str, int] = {}
    column: list[tuple[int, int, int, int]] = []
    for (row, device, dtype), size in sorted(memory.items()):
        if size > 0:
            column.append((row, devices.setdefault(device, len(devices)), dtypes.setdefault(dtype, len(dtypes)), size))
            by_device[device] = by_device.get(device, 0) + size
            by_dtype[dtype] = by_dtype.get(dtype, 0) + size
    shared: list[tuple[int, int, int, int]] = []
    for row, position, number, size in tree.shared:
        device, dtype = tree.devices[position], tree.dtypes[number]
        shared.append((row, devices.setdefault(device, len(devices)), dtypes.setdefault(dtype, len(dtypes)), size))
    return replace(
        model,
        bytes_by_device={device: size for device, size in by_device.items() if device != META},
        missing_bytes=by_device.get(META, 0),
        dtypes=by_dtype,
        tree=replace(tree, devices=tuple(devices), dtypes=tuple(dtypes), memory=tuple(column), shared=tuple(shared)),
    )
