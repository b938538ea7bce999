"""Decides which modules are models: the roots that no module holds, and the core of each, which is the module in its wrappers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Final

from gpumodels.models.adoption import Forest, adopt
from gpumodels.models.assembling import Part
from gpumodels.support.slices import batched
from gpumodels.support.torch_private import TRACED
from gpumodels.tensors.tensor_storages import TensorStorage
from gpumodels_shared.file_names import is_named_by_content
from gpumodels_shared.shards import checkpoint_of

CONTAINER_DEPTH: Final = 3
"""How many levels below a container models are searched for."""

MAX_PARTS: Final = 64
"""A container with more children is a model's list of layers."""

STEP: Final = 64
"""Modules processed between two points at which the work may be interrupted."""

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
    **dict.fromkeys(
        ("DeepSpeedEngine", "DeepSpeedHybridEngine", "PipelineEngine", "DualPipeVEngine", "InferenceEngine"), "module"
    ),
    "Float16Module": "module",
    "_FabricModule": "_original_module",
    **dict.fromkeys(
        (
            "_LightningModuleWrapperBase",
            "_LightningPrecisionModuleWrapperBase",
            "LightningDistributedModule",
            "LightningParallelModule",
        ),
        "module",
    ),
    "AveragedModel": "module",
    "GradSampleModule": "_module",
    "ThunderModule": "_model",
}
"""By a wrapper's class name, the attribute that holds the wrapped module; PEFT's `PeftModelFor…` classes count as `PeftModel`."""


def find_roots(forest: Forest, roots: list[tuple[int, int]]) -> Iterator[None]:
    """Append (root, core) for every model, in the order of the readings; the core is the root, or the module inside its wrappers.

    What script modules inside other models were made from comes last: those models have the same tensors.
    Modules that hold each other in a circle have no root: the newest one is taken, as it holds those that were there before it.
    Yields wherever it may be interrupted.
    """
    readings = forest.readings
    holders: dict[int, int] = {}
    for count, (key, reading) in enumerate(readings.items()):
        for _, child in reading.children:
            if child != key:
                holders[child] = key
        if count % STEP == 0:
            yield
    yield from adopt(forest, holders)
    reached: set[int] = set()
    cores: set[int] = set()
    for some in batched(readings, STEP):
        for key in some:
            if key not in holders:
                yield from _reach(key, forest, reached)
                core = _core(key, forest)
                if core == key or core not in cores:  # a second wrapper of the same module is no second model
                    cores.add(core)
                    roots.append((key, core))
        yield
    originals = yield from _originals_of_parts(forest, holders)
    if originals:
        roots.sort(key=lambda pair: pair[0] in originals)
    if len(reached) == len(readings):
        return
    order = {key: position for position, key in enumerate(readings)}
    for some in batched(readings, STEP):
        for key in some:
            if key not in reached:
                root = max(_circle_above(key, holders), key=order.__getitem__)
                roots.append((root, _core(root, forest)))
                yield from _reach(root, forest, reached)
        yield


def parts_of(root: int, core: int, forest: Forest, parts: list[Part]) -> Iterator[None]:
    """Append the parts of this root that become models: the root itself, or the models that it merely holds and what remains.

    A container is split if it has no identity and two or more of its parts have one: their library says that they are models, or
    the weights of each came from a file of its own. One that the program itself calls a model is enough.
    Yields wherever it may be interrupted.
    """
    found: list[tuple[str, int]] = []
    is_labelled = False
    if not forest.readings[core].has_identity and not _is_labelled(root, forest):
        yield from _identified_below(core, forest, found)
        is_labelled = any(_is_labelled(key, forest) for _, key in found)
        if len(found) < 2 and not is_labelled:
            files = yield from _files_of_most([key for _, key in _children(core, forest)], forest)
            found = [(name, key) for name, key in _children(core, forest) if files[key]]
            if len({files[key] for _, key in found}) < len(found):
                found = []  # two from one file: layers of a model into which something else was loaded
    if len(found) < 2 and not is_labelled:
        parts.append(Part(root, core))
        return
    parts += [Part(key, _core(key, forest), slot=name) for name, key in found]
    parts.append(Part(root, core, leave_out=frozenset(key for _, key in found)))


def _originals_of_parts(forest: Forest, holders: Mapping[int, int]) -> Generator[None, None, set[int]]:
    """The modules that script modules which Python modules hold were made from. TorchScript keeps them alive unseen."""
    found: set[int] = set()
    for some in batched(forest.readings, STEP):
        for key in some:
            originals = forest.readings[key].originals
            if originals and _is_held(key, forest, holders):
                found.update(originals)
        yield
    return found


def _is_held(script: int, forest: Forest, holders: Mapping[int, int]) -> bool:
    """Whether a module that is neither a script module nor a mere wrapper holds this script module."""
    met = {script}
    key = script
    while (key := holders.get(key, key)) not in met:
        met.add(key)
        if not forest.readings[key].originals and _wrapped(key, forest) not in met:
            return True
    return False


def _identified_below(root: int, forest: Forest, found: list[tuple[str, int]]) -> Iterator[None]:
    """Append the outermost modules that their library says are models, at most CONTAINER_DEPTH levels below the root."""
    met: set[int] = set()
    level = [("", root)]
    for _ in range(CONTAINER_DEPTH):
        below: list[tuple[str, int]] = []
        for _, holder in level:
            for name, key in _children(holder, forest):
                if key not in met:
                    met.add(key)
                    (found if _is_identified(key, forest) else below).append((name, key))
            yield
        level = below


def _is_identified(key: int, forest: Forest) -> bool:
    return forest.readings[_core(key, forest)].has_identity or _is_labelled(key, forest)


def _is_labelled(key: int, forest: Forest) -> bool:
    """Whether the program says that this is a model."""
    return forest.readings[key].is_labelled or forest.readings[_core(key, forest)].is_labelled


def _children(key: int, forest: Forest) -> list[tuple[str, int]]:
    """The children of a container; of one whose only child is another container, the children of that."""
    readings = forest.readings
    children = [(name, child) for name, child in forest.children(key) if child in readings]
    if len(children) == 1 and readings[children[0][1]].class_name in ("ModuleDict", "ModuleList"):
        return _children(children[0][1], forest)
    return children if len(children) <= MAX_PARTS else []


def _files_of_most(roots: Sequence[int], forest: Forest) -> Generator[None, None, dict[int, str | None]]:
    """For each module, the file that more than half of the bytes below it came from; shards of one checkpoint are one file.

    What several of them hold is nobody's, unless one holds nothing else.
    """
    held: dict[int, Mapping[tuple[str, int], TensorStorage]] = {}
    for root in roots:
        held[root] = yield from _storages_below(root, forest)
    holders = Counter(key for storages in held.values() for key in storages)
    yield
    return {
        root: _file_of_most([one for key, one in storages.items() if holders[key] == 1] or [*storages.values()])
        for root, storages in held.items()
    }


def _storages_below(root: int, forest: Forest) -> Generator[None, None, Mapping[tuple[str, int], TensorStorage]]:
    """The storages that this module and those below it hold, each once."""
    readings = forest.readings
    found: dict[tuple[str, int], TensorStorage] = {}
    waiting, met = [root], {root}
    while waiting:
        for _ in range(min(len(waiting), STEP)):
            key = waiting.pop()
            found.update((storage.key, storage) for storage in readings[key].storages)
            for _, child in forest.children(key):
                if child in readings and child not in met:
                    met.add(child)
                    waiting.append(child)
        yield
    return found


def _file_of_most(storages: Sequence[TensorStorage]) -> str | None:
    """None for a file that a store calls by its hash, too: it may be a shard of the same checkpoint as another."""
    total = sum(storage.size_bytes for storage in storages)
    by_file: dict[str, int] = {}
    for storage in storages:
        if storage.origin is not None and storage.origin.path:
            file = checkpoint_of(storage.origin.path)
            by_file[file] = by_file.get(file, 0) + storage.size_bytes
    if not by_file:
        return None
    file = max(by_file, key=by_file.__getitem__)
    return file if by_file[file] * 2 > total and not is_named_by_content(file) else None


def _circle_above(key: int, holders: Mapping[int, int]) -> list[int]:
    """The modules of the circle that going up from module to holder leads into."""
    path: list[int] = []
    while key not in path:
        path.append(key)
        key = holders[key]
    return path[path.index(key) :]


def _reach(root: int, forest: Forest, reached: set[int]) -> Iterator[None]:
    waiting = [root]
    while waiting:
        for _ in range(min(len(waiting), STEP)):
            key = waiting.pop()
            if key not in reached:
                reached.add(key)
                for _, child in forest.children(key):
                    if child in forest.readings:
                        waiting.append(child)
        yield


def _core(root: int, forest: Forest) -> int:
    core = root
    seen = {root}
    while True:
        inner = _wrapped(core, forest)
        if inner is None or inner in seen or inner not in forest.readings:
            return core
        seen.add(inner)
        core = inner


def _wrapped(key: int, forest: Forest) -> int | None:
    """The module that a wrapper wraps; None if the module is no wrapper."""
    reading = forest.readings[key]
    name = reading.class_name
    children = forest.children(key)
    attribute = WRAPPERS.get("PeftModel" if name.startswith("PeftModel") else name)
    if attribute is not None:
        return dict(children).get(attribute)
    if children and children[0][0] == TRACED:
        return children[0][1]
    if reading.is_lightning and not reading.storages:
        with_memory = [child for _, child in children if child in forest.readings and _holds_memory(child, forest)]
        return with_memory[0] if len(with_memory) == 1 else None
    return None


def _holds_memory(root: int, forest: Forest) -> bool:
    waiting, met = [root], {root}
    while waiting:
        key = waiting.pop()
        if forest.readings[key].storages:
            return True
        for _, child in forest.children(key):
            if child in forest.readings and child not in met:
                met.add(child)
                waiting.append(child)
    return False
