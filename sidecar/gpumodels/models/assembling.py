"""From readings to one model: its layer tree and its sums. Plain data only; no module is touched here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gpumodels.models.adoption import Forest
from gpumodels.provenance.files_read import Stamp
from gpumodels.support.resident import resident
from gpumodels.tensors.module_reader import ModuleReading
from gpumodels.tensors.tensor_storages import META, StorageReading
from gpumodels_shared.schema import LayerTree

STEP: Final = 32
"""Modules that are worked on between two places where the work may be interrupted."""

Entry = tuple[int, int, int]
"""Layer, device, dtype."""


@resident
class Part(NamedTuple):
    """What is to be one model: a root with all below it, but for the parts that are models of their own."""

    root: int
    """The registry's key of the outermost module."""
    core: int
    """The key of the module that it is about, wrappers seen through."""
    leave_out: Set[int] = frozenset()
    slot: str | None = None
    """The name under which a container holds it."""
    together: tuple[int, ...] = ()
    """Keys of equal roots, this one included, that are one model with it."""


@resident
@dataclass(frozen=True, slots=True, eq=False)
class FoundModel:
    """One model as the scan found it. The same object for as long as nothing about it changes."""

    part: Part
    adapter: str | None
    """The name under which PEFT holds it in its base model, or the file of ComfyUI's patches; None for any other model."""
    class_name: str
    members: Set[int]
    """Keys of all its modules, adapters' included."""
    storages: Mapping[tuple[str, int], int]
    """Every storage that it holds, with its size, whether it is counted here or elsewhere."""
    elsewhere: Set[tuple[str, int]]
    """Those of its storages that are counted with a model before it."""
    repeated: Set[tuple[str, int]]
    """Those that several of its tensors lie in."""
    bytes_by_device: Mapping[str, int]
    missing_bytes: int
    """What it would take to have in memory all that is on `meta`."""
    parameters: int
    dtypes: Mapping[str, int]
    tree: LayerTree
    keys: tuple[int, ...]
    """By row of the tree, the key of the module that it stands for; 0 where it stands for none, or for a part of one."""
    bytes_by_origin: Mapping[tuple[str, str], int]
    """Bytes by (path, source), wherever they are now and whichever model they count with."""
    stamps: Mapping[str, Stamp]
    """What those files were when they were read, by path."""
    tensor_paths: frozenset[str]
    """Attribute names of modules and tensors on the way to memory: `lora_down`, `weight`; what kinds are told by."""
    adapter_bytes: int
    attached_to: int | None
    """A module of the model that it adapts from outside, as kohya's networks do."""
    unread: int = 0
    """How many of its tensors, or packed weights, have a size that nobody knows: its bytes are at least what is said."""
    shared_bytes: int = field(init=False)
    """Bytes that it holds but that count elsewhere."""
    own_bytes: int = field(init=False)
    """What it would add to the models before it: in memory, or missing."""
    held_bytes: int = field(init=False)
    """All that it holds or would hold, counted here or elsewhere."""

    def __post_init__(self) -> None:
        """The sums, once: they are asked for at every look."""
        shared = sum(self.storages[key] for key in self.elsewhere)
        own = sum(self.bytes_by_device.values()) + self.missing_bytes
        for name, size in (("shared_bytes", shared), ("own_bytes", own), ("held_bytes", own + shared)):
            object.__setattr__(self, name, size)

    @property
    def root(self) -> int:
        """The registry's key of the outermost module."""
        return self.part.root

    @property
    def core(self) -> int:
        """The key of the module that it is about."""
        return self.part.core

    def is_built_like(self, other: FoundModel) -> bool:
        """Whether it has the same modules, in the same places, with parameters as large: no shape of any tensor is another."""
        return self.keys == other.keys and self.tree.names == other.tree.names and self.tree.parameters == other.tree.parameters

    @property
    def is_counted_elsewhere(self) -> bool:
        """Another object around the same network: a copy, a trace, an interface."""
        return bool(self.storages) and len(self.elsewhere) == len(self.storages) and not self.unread


def assemble(
    part: Part,
    forest: Forest,
    elsewhere: Set[tuple[str, int]],
    models: list[FoundModel],
    members: set[int],
) -> Iterator[None]:
    """Append to `models` the part's model and after it PEFT's adapters in it, as far as they hold memory.

    Yields wherever it may be interrupted.

    Args:
        part: what to put together.
        forest: all modules.
        elsewhere: storages that are counted with another model.
        models: receives the models.
        members: receives the keys of all modules that were gone through.
    """
    readings = forest.readings
    base = _Sums(elsewhere)
    adapters: dict[str, _Sums] = {}
    trail: list[str] = []
    # Preorder; a module that is held twice stands where it is met first.
    stack: list[tuple[str, int, int, str | None]] = [("", 0, part.root, None)]
    class_name = readings[part.core].class_name
    if part.together:
        class_name = f"{class_name} × {len(part.together)}"
        trail.append("")
        base.add_node("", 0, class_name)
        stack.clear()
        stack += [(str(number), 1, key, None) for number, key in enumerate(part.together)][::-1]
    while stack:
        for _ in range(min(len(stack), STEP)):
            name, depth, key, adapter = stack.pop()
            if key in members or key in part.leave_out:
                continue
            members.add(key)
            reading = readings[key]
            del trail[depth:]
            trail.append(name)
            if adapter is not None:
                _adapter(adapters, adapter, elsewhere).add(".".join(trail[1:]), 1, reading, key)
            elif name in PEFT_TABLES and reading.class_name == "ParameterDict":
                _add_table(reading, ".".join(trail[1:]), adapters, elsewhere)
            else:
                base.add(name, depth, reading, key)
            of_adapters = name in PEFT_TABLES and reading.class_name == "ModuleDict"
            for child_name, child in reversed(forest.children(key)):
                if child in readings and child not in members:
                    stack.append((child_name, depth + 1, child, adapter or (child_name if of_adapters else None)))
        yield
    yield from _finish(part, None, class_name, base, members, elsewhere, models)
    for adapter, sums in adapters.items():
        yield from _finish(part, adapter, "adapter", sums, members, elsewhere, models)
    yield from base.let_go()


def assemble_adapter(
    part: Part,
    adapter: str,
    layers: Sequence[tuple[str, ModuleReading]],
    elsewhere: Set[tuple[str, int]],
    members: Set[int],
    models: list[FoundModel],
) -> Iterator[None]:
    """Append to `models` an adapter of the part's model that lies in no module of it. Yields wherever it may be interrupted.

    Args:
        part: the model that it adapts.
        adapter: what tells it from the model's other adapters.
        layers: what it holds for which layer of the model, as if modules held it.
        elsewhere: storages that are counted with another model.
        members: the model's.
        models: receives the adapter.
    """
    sums = _Sums(elsewhere)
    sums.add_node("", 0, "adapter")
    for count, (name, reading) in enumerate(layers):
        sums.add(name, 1, reading)
        if count % STEP == 0:
            yield
    yield from _finish(part, adapter, "adapter", sums, members, elsewhere, models)


def _adapter(adapters: dict[str, _Sums], name: str, elsewhere: Set[tuple[str, int]]) -> _Sums:
    sums = adapters.get(name)
    if sums is None:
        sums = adapters[name] = _Sums(elsewhere)
        sums.add_node("", 0, "adapter")
    return sums


def _add_table(reading: ModuleReading, path: str, adapters: dict[str, _Sums], elsewhere: Set[tuple[str, int]]) -> None:
    """PEFT's adapters of embeddings: a ParameterDict, a parameter an adapter."""
    for storage, (identity, elements) in zip(reading.storages, reading.parameters, strict=False):
        one = reading._replace(children=(), storages=(storage,), parameters=((identity, elements),))
        _adapter(adapters, storage.tensor, elsewhere).add(path, 1, one)


def _finish(
    part: Part,
    adapter: str | None,
    class_name: str,
    sums: _Sums,
    members: Set[int],
    elsewhere: Set[tuple[str, int]],
    models: list[FoundModel],
) -> Iterator[None]:
    """The model, now that all its modules have gone by."""
    keep: list[int] = []
    needed_depth = -1
    # Going up a preorder, the first module one level above a kept one is its parent.
    for position in range(len(sums.depths) - 1, -1, -1):
        if position in sums.touched or sums.depths[position] == needed_depth - 1:
            keep.append(position)
            needed_depth = sums.depths[position]
        if position % STEP == 0:
            yield
    if not keep:
        return
    keep.reverse()
    tree = _TreeColumns()
    place: dict[int, int] = {}
    for row, position in enumerate(keep):
        place[position] = row
        tree.names.append(sums.names[position])
        sums.tensor_names.update(sums.names[position].split("."))
        tree.depths.append(sums.depths[position])
        tree.classes.append(tree.class_names.setdefault(sums.classes[position], len(tree.class_names)))
        tree.parameters.append(sums.parameters[position])
        tree.keys.append(sums.keys[position])
        if row % STEP == 0:
            yield
    memory: list[tuple[int, int, int, int]] = []
    shared: list[tuple[int, int, int, int]] = []
    for entries, target in ((sums.memory, memory), (sums.shared, shared)):
        for (layer, device, dtype), size in entries.items():
            target.append((place[layer], device, dtype, size))
            if len(target) % STEP == 0:
                yield
    columns: list[tuple[Any, ...]] = []
    for column in (tree.names, tree.depths, tree.classes, tree.parameters, tree.keys, memory, shared):
        yield
        columns.append(tuple(column))
    names, depths, classes, parameters, keys, memory_column, shared_column = columns
    total_parameters = sum(parameters)
    yield
    models.append(
        FoundModel(
            part=part,
            adapter=adapter,
            class_name=class_name,
            members=members,
            storages=sums.storages,
            elsewhere=elsewhere & sums.storages.keys() if elsewhere else frozenset(),
            repeated=sums.repeated,
            bytes_by_device={device: size for device, size in sums.bytes_by_device.items() if device != META},
            missing_bytes=sums.bytes_by_device.get(META, 0),
            parameters=total_parameters,
            dtypes=sums.bytes_by_dtype,
            tree=LayerTree(
                names=names,
                depths=depths,
                class_names=tuple(tree.class_names),
                classes=classes,
                parameters=parameters,
                devices=tuple(sums.devices),
                dtypes=tuple(sums.dtypes),
                memory=memory_column,
                shared=shared_column,
            ),
            keys=keys,
            bytes_by_origin=sums.bytes_by_origin,
            stamps=sums.stamps,
            tensor_paths=frozenset(sums.tensor_names),
            adapter_bytes=sums.adapter_bytes,
            attached_to=sums.attached_to,
            unread=sums.unread,
        )
    )


@resident
class _TreeColumns:
    """A layer tree while it grows."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.depths: list[int] = []
        self.class_names: dict[str, int] = {}
        self.classes: list[int] = []
        self.parameters: list[int] = []
        self.keys: list[int] = []


@resident
class _Sums:
    """What adds up while a model's modules go by in preorder."""

    def __init__(self, elsewhere: Set[tuple[str, int]]) -> None:
        self._elsewhere = elsewhere
        self._parameters_seen: set[int] = set()
        self._adapter_depth: int | None = None
        self.names: list[str] = []
        self.depths: list[int] = []
        self.classes: list[str] = []
        self.parameters: list[int] = []
        self.keys: list[int] = []
        self.touched: set[int] = set()
        """Positions of the modules that hold memory themselves."""
        self.storages: dict[tuple[str, int], int] = {}
        self.repeated: set[tuple[str, int]] = set()
        self.devices: dict[str, int] = {}
        self.dtypes: dict[str, int] = {}
        self.memory: dict[Entry, int] = {}
        self.shared: dict[Entry, int] = {}
        self.bytes_by_device: dict[str, int] = {}
        self.bytes_by_dtype: dict[str, int] = {}
        self.bytes_by_origin: dict[tuple[str, str], int] = {}
        self.stamps: dict[str, Stamp] = {}
        self.adapter_bytes = 0
        self.attached_to: int | None = None
        self.unread = 0
        self._counted_bytes = 0
        self.tensor_names: set[str] = set()

    def add(self, name: str, depth: int, reading: ModuleReading, key: int = 0) -> None:
        """The next module, or a part of one: then it has no key."""
        own = 0
        for identity, elements in reading.parameters:
            if identity not in self._parameters_seen:
                self._parameters_seen.add(identity)
                own += elements
        self.add_node(name, depth, reading.class_name, own, key)
        if self._adapter_depth is not None and depth <= self._adapter_depth:
            self._adapter_depth = None
        if self._adapter_depth is None and name.startswith(ADAPTER_PREFIXES):
            self._adapter_depth = depth
        if self.attached_to is None:
            self.attached_to = reading.attached_to
        position = len(self.names) - 1
        if reading.unread:
            self.unread += reading.unread
            self.touched.add(position)
        for storage in reading.storages:
            before = self._counted_bytes
            self._add_storage(position, storage)
            if self._adapter_depth is not None or storage.tensor.startswith(ADAPTER_PREFIXES):
                self.adapter_bytes += self._counted_bytes - before

    def add_node(self, name: str, depth: int, class_name: str, parameters: int = 0, key: int = 0) -> None:
        """A row of the tree."""
        self.names.append(name)
        self.depths.append(depth)
        self.classes.append(class_name)
        self.parameters.append(parameters)
        self.keys.append(key)

    def let_go(self) -> Iterator[None]:
        """Free it in pieces: of a large model it is some hundred thousand objects."""
        for name in list(vars(self)):
            delattr(self, name)
            yield

    def _add_storage(self, position: int, storage: StorageReading) -> None:
        key, dtype, size, origin, tensor = storage
        self.tensor_names.add(tensor)
        if not size:
            return
        device = key[0]
        self.touched.add(position)
        entry = (position, self.devices.setdefault(device, len(self.devices)), self.dtypes.setdefault(dtype, len(self.dtypes)))
        if origin is not None and key not in self.storages:
            stated = (origin.path, origin.source)
            self.bytes_by_origin[stated] = self.bytes_by_origin.get(stated, 0) + size
            if origin.stamp is not None:
                self.stamps[origin.path] = origin.stamp
        if key in self.storages or key in self._elsewhere:
            self.shared[entry] = self.shared.get(entry, 0) + size
            if key in self.storages:
                self.repeated.add(key)
            self.storages[key] = size
            return
        self.storages[key] = size
        self._counted_bytes += size
        self.memory[entry] = self.memory.get(entry, 0) + size
        self.bytes_by_device[device] = self.bytes_by_device.get(device, 0) + size
        if device != META:
            self.bytes_by_dtype[dtype] = self.bytes_by_dtype.get(dtype, 0) + size


ADAPTER_PREFIXES: Final = tuple(
    f"{kind}_"
    for kind in ("lora", "lycoris", "hada", "lokr", "oft", "boft", "dora", "vera", "ia3", "hra", "randlora", "fourierft")
)
"""How modules and tensors of adapters are named: PEFT's, kohya's, LyCORIS's. A kohya network's `lora_unet_…` are too."""

_TABLES: Final = """
lora_A lora_B lora_E lora_diag lora_embedding_A lora_embedding_B lora_magnitude_vector
hada_w1_a hada_w1_b hada_w2_a hada_w2_b hada_t1 hada_t2 lokr_w1 lokr_w1_a lokr_w1_b lokr_w2 lokr_w2_a lokr_w2_b lokr_t2
oft_R oft_r oft_embedding_R boft_R boft_s ia3_l vera_lambda_b vera_lambda_d randlora_lambda randlora_gamma hra_u
fourierft_spectrum
"""
PEFT_TABLES: Final = frozenset(_TABLES.split())
"""Where PEFT keeps, by adapter's name, what adapters add to a layer."""
