"""A model some of whose modules hold other tensors than before: the same tree with other sums, found without going through it.

Only where nothing but sizes and places can differ. What is shared, adapts something, comes from another file or has no known size
is left to `assemble`, which says the same of any model, and takes as long as the model is large.
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
from gpumodels.tensors.tensor_storages import META, StorageReading

MOST_EXCHANGED: Final = 64
"""Modules; for more it is no faster than to assemble the model."""
ROWS_PER_STEP: Final = 4000

Exchanged = Mapping[int, tuple[ModuleReading, ModuleReading]]
"""By module, what was read of it before and now."""
_Storages = Mapping[tuple[str, int], StorageReading]
_MemoryRow = tuple[int, int, int, int]
"""A row of `LayerTree.memory`."""


def storages_of(readings: Iterable[ModuleReading]) -> _Storages | None:
    """Their storages by key; None where one is there twice, or is none to reckon with."""
    found: dict[tuple[str, int], StorageReading] = {}
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
    """The model with other readings of some modules; None where it must be assembled. Yields wherever it may be interrupted.

    Args:
        model: as it was.
        exchanged: the modules.
        before: all that they held, which no other model may hold.
        now: all that they hold, which nobody else may hold either.
    """
    if not _may_be(model, exchanged, before, now):
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
    devices, dtypes = _numbers(tree.devices), _numbers(tree.dtypes)
    parameters: dict[int, int] = {}
    memory: dict[int, list[_MemoryRow]] = {}
    for key, (_, reading) in exchanged.items():
        row = rows[key]
        parameters[row] = sum(elements for _, elements in reading.parameters)
        sums: dict[tuple[int, int], int] = {}
        for (device, _), dtype, size, _, _ in reading.storages:
            place = devices.setdefault(device, len(devices)), dtypes.setdefault(dtype, len(dtypes))
            sums[place] = sums.get(place, 0) + size
        memory[row] = [(row, *place, size) for place, size in sums.items()]
    if not (all(map(by_device.get, devices)) and all(map(by_dtype.get, dtypes))):
        return None  # the tree would name what is nowhere in it
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
        tensor_paths=model.tensor_paths.union(storage.tensor for storage in now.values()),
    )


def _may_be(model: FoundModel, exchanged: Exchanged, before: _Storages, now: _Storages) -> bool:
    """Whether the readings differ in nothing that says what belongs together, or what it is."""
    if model.unread or model.adapter_bytes or not model.repeated.isdisjoint(before) or not model.elsewhere.isdisjoint(before):
        return False
    if not {one.tensor for one in before.values()} <= {one.tensor for one in now.values()}:
        return False
    former, latter = _by_origin(before), _by_origin(now)
    if former.keys() != latter.keys():
        return False
    if former != latter and any(path for path, _ in model.bytes_by_origin):
        return False  # parts of a container may be told apart by which file most of them is from
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


def _numbers(names: tuple[str, ...]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _with_parameters(column: tuple[int, ...], parameters: Mapping[int, int]) -> tuple[int, ...]:
    """The column; the same object where nothing differs, so that it isn't packed anew."""
    if all(column[row] == size for row, size in parameters.items()):
        return column
    changed = list(column)
    for row, size in parameters.items():
        changed[row] = size
    return tuple(changed)


def _with_rows(column: tuple[_MemoryRow, ...], entries: Mapping[int, list[_MemoryRow]]) -> tuple[_MemoryRow, ...]:
    """The column, which is in the order of its rows, with other entries for some of these."""
    changed: list[_MemoryRow] = []
    at = 0
    for row in sorted(entries):
        start = bisect_left(column, (row,), at)
        changed += column[at:start]
        changed += entries[row]
        at = bisect_left(column, (row + 1,), start)
    return (*changed, *column[at:])
