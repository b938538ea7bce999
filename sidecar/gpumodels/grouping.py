"""Which modules are models: roots that no other module holds, and what they are about once their wrappers are seen through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from gpumodels.reading import ModuleReading

STEP: Final = 64
"""Modules that are worked on between two places where the work may be interrupted."""

WRAPPERS: Final = {
    "OptimizedModule": "_orig_mod",
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
    "PeftModel": "base_model",
    "LoraModel": "model",
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
    for key in readings:
        if key not in holders:
            roots.append((key, _core(key, readings)))
            yield from _reach(key, readings, reached)
    if len(reached) == len(readings):
        return
    order = {key: position for position, key in enumerate(readings)}
    for key in readings:
        if key not in reached:
            root = max(_circle_above(key, holders), key=order.__getitem__)
            roots.append((root, _core(root, readings)))
            yield from _reach(root, readings, reached)


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
