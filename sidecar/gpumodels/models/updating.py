"""Updates a model some of whose modules hold other tensors than before: the same layer tree with other sums, without a new visit.

Only where nothing but sizes and devices can differ. Storages that are shared, belong to adapters, come from other files than
before or have no known size are left to `assemble`, which gives the same result for any model, in time proportional to its size.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from typing import Final

from gpumodels.models.assembling import ADAPTER_PREFIXES, FoundModel
from gpumodels.provenance.origin import Origin
from gpumodels.tensors.module_reader import ModuleReading
from gpumodels.tensors.tensor_storages import META, TensorStorage

MOST_EXCHANGED: Final = 64
"""Modules; with more of them, updating is no faster than assembling the model anew."""
ROWS_PER_STEP: Final = 4000

Exchanged = Mapping[int, tuple[ModuleReading, ModuleReading]]
"""By module, its readings before and now."""
_Storages = Mapping[tuple[str, int], TensorStorage]
_MemoryRow = tuple[int, int, int, int]
"""A row of `LayerTree.memory`."""


def storages_of(readings: Iterable[ModuleReading]) -> _Storages | None:
    """The storages of these modules by key; None if any is repeated, empty, an adapter's or unreadable."""
    found: dict[tuple[str, int], TensorStorage] = {}
    for reading in readings:
        if reading.unread:
            return None
        for storage in reading.storages:
            if not storage.size_bytes or storage.key in found or storage.tensor.startswith(ADAPTER_PREFIXES):
                return None
            found[storage.key] = storage
    return found


def updated(
    model: FoundModel, exchanged: Exchanged, before: _Storages, now: _Storages
) -> Generator[None, None, FoundModel | None]:
    """The model with new readings of some modules; None if it must be assembled anew. Yields wherever it may be interrupted.

    Args:
        model: the model before.
        exchanged: the modules that hold other tensors.
        before: all storages that they held; no other model may hold any of these.
        now: all storages that they hold; nothing else may hold any of these either.
    """
    if not _is_updatable(model, exchanged, before, now):
        return None
    tree = model.tree
    rows: dict[int, int] = {}
    for start in range(0, len(model.keys), ROWS_PER_STEP):
        keys = model.keys[start : start + ROWS_PER_STEP]
        rows.update({key: row for row, key in enumerate(keys, start) if key in exchanged})
        yield
    if len(rows) < len(exchanged) or any(
        bool(former.storages) != bool(reading.storages) and not _has_rows_below(tree.depths, rows[key])
        for key, (former, reading) in exchanged.items()
    ):
        return None
    by_device, by_dtype = {META: model.missing_bytes, **model.bytes_by_device}, dict(model.dtypes)
    by_origin = dict(model.bytes_by_origin)
    for sign, some in ((-1, before), (1, now)):
        for (device, _), dtype, size, origin, _ in some.values():
            by_device[device] = by_device.get(device, 0) + sign * size
            if device != META:
                by_dtype[dtype] = by_dtype.get(dtype, 0) + sign * size
            if origin is not None:
                by_origin[origin.path, origin.source] += sign * size
    devices, dtypes = _positions(tree.devices), _positions(tree.dtypes)
    parameters: dict[int, int] = {}
    memory: dict[int, list[_MemoryRow]] = {}
    for key, (_, reading) in exchanged.items():
        row = rows[key]
        parameters[row] = sum(elements for _, elements in reading.parameters)
        sums: dict[tuple[int, int], int] = {}
        for (device, _), dtype, size, _, _ in reading.storages:
            entry = devices.setdefault(device, len(devices)), dtypes.setdefault(dtype, len(dtypes))
            sums[entry] = sums.get(entry, 0) + size
        memory[row] = [(row, *entry, size) for entry, size in sums.items()]
    if not (all(map(by_device.get, devices)) and all(map(by_dtype.get, dtypes))):
        return None  # the tree would list a device or dtype that nothing in it uses
    yield
    storages = dict(model.storages)
    for storage in before:
        del storages[storage]
    storages.update((key, one.size_bytes) for key, one in now.items())
    yield
    columns = _with_parameters(tree.parameters, parameters)
    return replace(
        model,
        storages=storages,
        missing_bytes=by_device.pop(META),
        bytes_by_device={device: size for device, size in by_device.items() if size},
        parameters=model.parameters + sum(size - tree.parameters[row] for row, size in parameters.items()),
        dtypes={dtype: size for dtype, size in by_dtype.items() if size},
        tree=replace(
            tree, parameters=columns, devices=tuple(devices), dtypes=tuple(dtypes), memory=_with_rows(tree.memory, memory)
        ),
        bytes_by_origin={origin: size for origin, size in by_origin.items() if size},
        attribute_names=model.attribute_names.union(storage.tensor for storage in now.values()),
    )


def _is_updatable(model: FoundModel, exchanged: Exchanged, before: _Storages, now: _Storages) -> bool:
    """Whether the readings differ in nothing that decides which modules form a model, or which model it is."""
    if (
        model.unread
        or model.adapter_bytes
        or not model.shared_within.isdisjoint(before)
        or not model.counted_elsewhere.isdisjoint(before)
    ):
        return False
    if not {one.tensor for one in before.values()} <= {one.tensor for one in now.values()}:
        return False
    former, latter = _by_origin(before), _by_origin(now)
    if former.keys() != latter.keys():
        return False
    if former != latter and any(path for path, _ in model.bytes_by_origin):
        return False  # a container may be split by which file most bytes of each part came from
    return all(
        reading._replace(storages=(), caches=(), parameters=(), stamp=0, ref=was.ref)
        == was._replace(storages=(), caches=(), parameters=(), stamp=0)
        for was, reading in exchanged.values()
    )


def _by_origin(storages: _Storages) -> Counter[Origin | None]:
    sums: Counter[Origin | None] = Counter()
    for one in storages.values():
        sums[one.origin] += one.size_bytes
    return sums


def _has_rows_below(depths: tuple[int, ...], row: int) -> bool:
    return row + 1 < len(depths) and depths[row + 1] > depths[row]


def _positions(names: tuple[str, ...]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _with_parameters(column: tuple[int, ...], parameters: Mapping[int, int]) -> tuple[int, ...]:
    """The column with these numbers of parameters by row; the same object if nothing differs, so that it isn't packed anew."""
    if all(column[row] == size for row, size in parameters.items()):
        return column
    changed = list(column)
    for row, size in parameters.items():
        changed[row] = size
    return tuple(changed)


def _with_rows(column: tuple[_MemoryRow, ...], entries: Mapping[int, list[_MemoryRow]]) -> tuple[_MemoryRow, ...]:
    """The column, which is sorted by row, with other entries for some of the rows."""
    changed: list[_MemoryRow] = []
    at = 0
    for row in sorted(entries):
        start = bisect_left(column, (row,), at)
        changed += column[at:start]
        changed += entries[row]
        at = bisect_left(column, (row + 1,), start)
    return (*changed, *column[at:])
