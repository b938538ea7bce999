"""Which modules are models: roots that no other module holds, and what they are about once their wrappers are seen through."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Final

from gpumodels.assembling import Part
from gpumodels.reading import ModuleReading
from gpumodels_shared.file_names import checkpoint_of

CONTAINER_DEPTH: Final = 3
"""How far below a container its models are looked for."""

MAX_PARTS: Final = 64
"""A container of more is a model's list of layers."""

STEP: Final = 64
"""Modules that are worked on between two places where the work may be interrupted."""

WRAPPERS: Final = {
    "OptimizedModule": "_orig_mod",
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
    "PeftModel": "base_model",
    **dict.fromkeys(
        ("LoraModel", "AdaLoraModel", "LoHaModel", "LoKrModel", "OFTModel", "BOFTModel", "IA3Model", "VeraModel", "HRAModel"),
        "model",
    ),
    "DeepSpeedEngine": "module",
    "Float16Module": "module",
}
"""Class name to the attribute that holds what is wrapped; PEFT's `PeftModelFor…` classes count as `PeftModel`."""


def find_roots(readings: Mapping[int, ModuleReading], roots: list[tuple[int, int]]) -> Iterator[None]:
    """Append (root, core) for every model, in the order of the readings; core is the root, or what its wrappers wrap.

    Modules that hold each other in a circle have no root: the one that came last stands for them, as it holds what came
    before. Yields wherever it may be interrupted.
    """
    holders: dict[int, int] = {}
    for count, (key, reading) in enumerate(readings.items()):
        for _, child in reading.children:
            if child != key:
                holders[child] = key
        if count % STEP == 0:
            yield
    reached: set[int] = set()
    cores: set[int] = set()
    for key in readings:
        if key not in holders:
            yield from _reach(key, readings, reached)
            core = _core(key, readings)
            if core == key or core not in cores:  # a second wrapper of the same is no second model
                cores.add(core)
                roots.append((key, core))
    if len(reached) == len(readings):
        return
    order = {key: position for position, key in enumerate(readings)}
    for key in readings:
        if key not in reached:
            root = max(_circle_above(key, holders), key=order.__getitem__)
            roots.append((root, _core(root, readings)))
            yield from _reach(root, readings, reached)


def parts_of(root: int, core: int, readings: Mapping[int, ModuleReading], parts: list[Part]) -> Iterator[None]:
    """Append what of this root is to be a model: itself, or the models that it merely holds, and what is left of it.

    A container is split where two or more of its parts have an identity of their own and it has none: models by a library's
    word, or modules whose weights came from a file each of their own. Yields wherever it may be interrupted.
    """
    found: list[tuple[str, int]] = []
    if not readings[core].has_identity:
        yield from _identified_below(core, readings, found)
        if len(found) < 2:
            files: dict[int, str | None] = {}
            for _, key in _children(core, readings):
                files[key] = yield from _file_of_most(key, readings)
            found = [(name, key) for name, key in _children(core, readings) if files[key]]
            if len({files[key] for _, key in found}) < len(found):
                found = []  # two of one file: layers of a model into which something else was loaded
    if len(found) < 2:
        parts.append(Part(root, core))
        return
    parts += [Part(key, _core(key, readings), slot=name) for name, key in found]
    parts.append(Part(root, core, leave_out=frozenset(key for _, key in found)))


def _identified_below(root: int, readings: Mapping[int, ModuleReading], found: list[tuple[str, int]]) -> Iterator[None]:
    """Append the outermost modules that are models by a library's word, at most CONTAINER_DEPTH below the root."""
    met: set[int] = set()
    level = [("", root)]
    for _ in range(CONTAINER_DEPTH):
        below: list[tuple[str, int]] = []
        for _, holder in level:
            for name, key in _children(holder, readings):
                if key not in met:
                    met.add(key)
                    (found if readings[_core(key, readings)].has_identity else below).append((name, key))
            yield
        level = below


def _children(key: int, readings: Mapping[int, ModuleReading]) -> list[tuple[str, int]]:
    """What a container directly holds; for one that holds nothing but another container, what that holds."""
    children = [(name, child) for name, child in readings[key].children if child in readings]
    if len(children) == 1 and readings[children[0][1]].class_name in ("ModuleDict", "ModuleList"):
        return _children(children[0][1], readings)
    return children if len(children) <= MAX_PARTS else []


def _file_of_most(root: int, readings: Mapping[int, ModuleReading]) -> Generator[None, None, str | None]:
    """The file that most bytes below this module came from; shards of one checkpoint are one file."""
    total = 0
    by_file: dict[str, int] = {}
    waiting, met = [root], {root}
    while waiting:
        for _ in range(min(len(waiting), STEP)):
            reading = readings[waiting.pop()]
            for storage in reading.storages:
                total += storage.size_bytes
                if storage.origin is not None and storage.origin.path:
                    file = checkpoint_of(storage.origin.path)
                    by_file[file] = by_file.get(file, 0) + storage.size_bytes
            for _, child in reading.children:
                if child in readings and child not in met:
                    met.add(child)
                    waiting.append(child)
        yield
    if not by_file:
        return None
    file = max(by_file, key=by_file.__getitem__)
    return file if by_file[file] * 2 > total else None


def _circle_above(key: int, holders: Mapping[int, int]) -> list[int]:
    """The modules of the circle that one comes to by going up from module to holder."""
    path: list[int] = []
    while key not in path:
        path.append(key)
        key = holders[key]
    return path[path.index(key) :]


def _reach(root: int, readings: Mapping[int, ModuleReading], reached: set[int]) -> Iterator[None]:
    waiting = [root]
    while waiting:
        for _ in range(min(len(waiting), STEP)):
            key = waiting.pop()
            if key not in reached:
                reached.add(key)
                for _, child in readings[key].children:
                    if child in readings:
                        waiting.append(child)
        yield


def _core(root: int, readings: Mapping[int, ModuleReading]) -> int:
    core = root
    seen = {root}
    while True:
        reading = readings[core]
        name = reading.class_name
        attribute = WRAPPERS.get("PeftModel" if name.startswith("PeftModel") else name)
        inner = dict(reading.children).get(attribute) if attribute else None
        if inner is None or inner in seen or inner not in readings:
            return core
        seen.add(inner)
        core = inner
