"""Builds a model's layer tree and sums from the readings of its modules. Plain data only; no module is touched here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from gpumodels.models.adoption import Forest
from gpumodels.provenance.files_read import Stamp
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import TRACED
from gpumodels.support.weak_table import KeyedRef
from gpumodels.tensors.forward_holders import HELD_BY_FORWARD
from gpumodels.tensors.module_reader import ModuleReading
from gpumodels.tensors.tensor_storages import META, TensorStorage
from gpumodels_shared.schema import LayerTree
from gpumodels_shared.shards import checkpoint_of

STEP: Final = 32
"""Modules processed between two points at which the work may be interrupted."""

_MemoryKey = tuple[int, int, int]
"""Row of the layer tree, index of the device, index of the dtype."""


@never_pickled
@dataclass(frozen=True, slots=True, eq=False)
class FormerModel:
    """A model that something is left of: it was deleted, or parts of it were replaced."""

    ref: KeyedRef | None
    """Its core, alive or dead; None if no scan ever saw it."""
    class_name: str = ""


@never_pickled
class Part(NamedTuple):
    """The modules that make up one model: a root and all below it, except those that are models of their own."""

    root: int
    """The registry's key of the outermost module."""
    core: int
    """The key of the actual model: of the root, or of the module inside its wrappers."""
    leave_out: Set[int] = frozenset()
    slot: str | None = None
    """The name under which a container holds the root."""
    equal_roots: tuple[int, ...] = ()
    """Keys of the equal roots, this one included, that together are one model."""
    left_of: FormerModel | None = None
    """The model that this is what is left of."""


@never_pickled
class SharedWeights(NamedTuple):
    """Those of a model's weights that another model holds, too, or held; by their file neither is named."""

    slots: Set[tuple[int, str]]
    """Where the model holds them: the registry's key of the module, and the name of the tensor in it."""
    bytes_by_origin: Mapping[tuple[str, str], int]
    """Bytes by (path, source)."""
    size_bytes: int


@never_pickled
@dataclass(frozen=True, slots=True, eq=False)
class FoundModel:
    """One model as the scan found it. It stays the same object for as long as nothing about it changes."""

    part: Part
    adapter: str | None
    """The name under which PEFT holds it in its base model, or the file of a LoRA in ComfyUI; None if it is no such adapter."""
    class_name: str
    members: Set[int]
    """Keys of all its modules, those of adapters included."""
    storages: Mapping[tuple[str, int], int]
    """The size of every storage that it holds, whichever model the storage counts towards."""
    counted_elsewhere: Set[tuple[str, int]]
    """Those of its storages that count towards a model before it."""
    shared_within: Set[tuple[str, int]]
    """Those of its storages that several of its tensors share."""
    bytes_by_device: Mapping[str, int]
    missing_bytes: int
    """Bytes that its tensors on `meta` would take in memory."""
    parameters: int
    dtypes: Mapping[str, int]
    tree: LayerTree
    keys: tuple[int, ...]
    """By row of the tree, the key of its module; 0 for a row that stands for no module, or for a part of one."""
    bytes_by_origin: Mapping[tuple[str, str], int]
    """Bytes by (path, source), on whichever device they are now and whichever model they count towards."""
    stamps: Mapping[str, Stamp]
    """By path, the stamps that those files had when they were read."""
    attribute_names: frozenset[str]
    """Attribute names of modules and tensors that hold memory, as `lora_down` or `weight`; the model's kind is judged by them."""
    adapter_bytes: int
    attached_to: int | None
    """The key of a module of the model that it adapts from outside, as kohya's networks do."""
    unread: int = 0
    """How many of its tensors or packed weights are of unknown size: all other sums are then lower bounds."""
    shared_weights: SharedWeights | None = None
    """What `models.shared_weights` found; None where it shares nothing and never did."""
    merged_tensors: Mapping[str, int] = field(default_factory=dict)
    """By the path of another model's checkpoint, into how many of its tensors ComfyUI merges that model's, once it uses them."""
    paged_onto: str | None = None
    """The device onto and off which its host moves single pages of it; empty if it has moved none yet, None if it never does."""
    rows_on_disk: Set[int] = frozenset()
    """Of an adapter in ComfyUI, the rows whose tensors are mapped from a file, and read again when they are needed."""
    pinned_bytes: int = 0
    """Of its paged weights that are in host memory, the bytes in pinned memory."""
    asleep_bytes: int = 0
    """Of its bytes that are not on its device, those that its host's allocator took away while torch still calls them there."""
    asleep_on: str | None = None
    """That device."""
    asleep_in: str | None = None
    """Where these bytes are meanwhile: `host`, `discarded`; None if some are here and some there."""
    imported_bytes: int = 0
    """Of its bytes that are not on its device, those that are another process's memory there."""
    shared_bytes: int = field(init=False)
    """Bytes that it holds but that count towards a model before it."""
    own_bytes: int = field(init=False)
    """Bytes that count towards this model: those in memory, and `missing_bytes`."""
    held_bytes: int = field(init=False)
    """`own_bytes` and `shared_bytes` together."""

    def __post_init__(self) -> None:
        """Compute the sums once, as every scan needs them."""
        shared = sum(self.storages[key] for key in self.counted_elsewhere)
        own = sum(self.bytes_by_device.values()) + self.missing_bytes
        for name, size in (("shared_bytes", shared), ("own_bytes", own), ("held_bytes", own + shared)):
            object.__setattr__(self, name, size)

    @property
    def root(self) -> int:
        """The registry's key of the outermost module."""
        return self.part.root

    @property
    def core(self) -> int:
        """The key of the actual model: of the root, or of the module inside its wrappers."""
        return self.part.core

    def has_same_structure_as(self, other: FoundModel) -> bool:
        """Whether it has the same modules under the same names with as many parameters: no tensor's shape has changed."""
        return self.keys == other.keys and self.tree.names == other.tree.names and self.tree.parameters == other.tree.parameters

    def is_built_like(self, other: FoundModel) -> bool:
        """Whether they are of one class, with modules of the same names and as many parameters."""
        is_alike = self.class_name == other.class_name and self.tree.parameters == other.tree.parameters
        return is_alike and self.tree.names == other.tree.names

    @property
    def is_counted_elsewhere(self) -> bool:
        """Whether it is but another object around a network that is counted already: a copy, a trace, an interface."""
        return bool(self.storages) and len(self.counted_elsewhere) == len(self.storages) and not self.unread


def assemble(
    part: Part,
    forest: Forest,
    counted_elsewhere: Set[tuple[str, int]],
    models: list[FoundModel],
    members: set[int],
) -> Iterator[None]:
    """Append the part's model to `models`, and after it PEFT's adapters in it, each only if it holds memory.

    Yields wherever it may be interrupted.

    Args:
        part: the modules of the model.
        forest: all modules.
        counted_elsewhere: storages that count towards another model.
        models: receives the models.
        members: receives the keys of all modules that were visited.
    """
    readings = forest.readings
    base = _Sums(counted_elsewhere)
    adapters: dict[str, _Sums] = {}
    held: list[tuple[str, ModuleReading]] = []
    trail: list[str] = []
    # Preorder; a module that is held twice is listed where it is met first.
    stack: list[tuple[str, int, int, str | None]] = [("", 0, part.root, None)]
    class_name = readings[part.core].class_name
    if part.equal_roots:
        others = len({readings[key].class_name for key in part.equal_roots}) > 1
        class_name = f"{class_name} and others" if others else f"{class_name} × {len(part.equal_roots)}"
        trail.append("")
        base.add_node("", 0, class_name)
        stack.clear()
        stack += [(str(number), 1, key, None) for number, key in enumerate(part.equal_roots)][::-1]
    while stack:
        for _ in range(min(len(stack), STEP)):
            name, depth, key, adapter = stack.pop()
            if key in members or key in part.leave_out:
                continue
            members.add(key)
            reading = readings[key]
            children = forest.children(key)
            if len(children) == 1 and children[0][0] == TRACED and not reading.storages:
                stack.append((name, depth, children[0][1], adapter))  # a traced module is its script module
                continue
            del trail[depth:]
            trail.append(name)
            if adapter is not None:
                _sums_of_adapter(adapters, adapter, counted_elsewhere).add(".".join(trail[1:]), 1, reading, key)
            elif name in PEFT_TABLES and reading.class_name == "ParameterDict":
                _add_table(reading, ".".join(trail[1:]), adapters, counted_elsewhere)
            else:
                base.add(name, depth, reading, key)
            if reading.held:
                held.append((".".join(trail[1:]), reading))
            holds_adapters = name in PEFT_TABLES and reading.class_name == "ModuleDict"
            for child_name, child in reversed(children):
                if child in readings and child not in members:
                    of_adapter = child_name if holds_adapters else None
                    if child_name.startswith(HELD_BY_FORWARD):
                        of_adapter = _held_adapter(_file_of(child, forest))
                    stack.append((child_name, depth + 1, child, adapter or of_adapter))
        yield
    for path, reading in held:
        _add_held(reading, path, base, adapters, counted_elsewhere)
        yield
    yield from _finish(part, None, class_name, base, members, counted_elsewhere, models)
    for adapter, sums in adapters.items():
        yield from _finish(part, adapter, "adapter", sums, members, counted_elsewhere, models)
    yield from base.free_in_steps()


def assemble_adapter(
    part: Part,
    adapter: str,
    layers: Sequence[tuple[str, ModuleReading]],
    counted_elsewhere: Set[tuple[str, int]],
    members: Set[int],
    models: list[FoundModel],
) -> Iterator[None]:
    """Append to `models` an adapter whose tensors no module of its base model holds. Yields wherever it may be interrupted.

    Args:
        part: the base model's.
        adapter: tells it from the base model's other adapters.
        layers: names of the base model's layers, each with what the adapter holds for it, as if that were a module.
        counted_elsewhere: storages that count towards another model.
        members: the base model's.
        models: receives the adapter.
    """
    sums = _Sums(counted_elsewhere)
    sums.add_node("", 0, "adapter")
    for count, (name, reading) in enumerate(layers):
        sums.add(name, 1, reading)
        if count % STEP == 0:
            yield
    yield from _finish(part, adapter, "adapter", sums, members, counted_elsewhere, models)


def _sums_of_adapter(adapters: dict[str, _Sums], name: str, counted_elsewhere: Set[tuple[str, int]]) -> _Sums:
    sums = adapters.get(name)
    if sums is None:
        sums = adapters[name] = _Sums(counted_elsewhere)
        sums.add_node("", 0, "adapter")
    return sums


def _add_table(reading: ModuleReading, path: str, adapters: dict[str, _Sums], counted_elsewhere: Set[tuple[str, int]]) -> None:
    """Add PEFT's adapters of an embedding: a ParameterDict with one parameter per adapter."""
    for storage, (identity, elements) in zip(reading.storages, reading.parameters, strict=False):
        one = reading._replace(children=(), storages=(storage,), parameters=((identity, elements),))
        _sums_of_adapter(adapters, storage.tensor, counted_elsewhere).add(path, 1, one)


def _add_held(
    reading: ModuleReading, path: str, base: _Sums, adapters: dict[str, _Sums], counted_elsewhere: Set[tuple[str, int]]
) -> None:
    """Add what functions around a module's `forward` hold of adapters; what a module of the model holds, too, is no adapter."""
    for one in reading.held:
        storages = tuple(storage for storage in one.storages if storage.key not in base.storages)
        if storages:
            files = [storage.origin.path for storage in storages if storage.origin is not None and storage.origin.path]
            adapter = _held_adapter(checkpoint_of(files[0]) if files else "")
            layer = reading._replace(class_name=one.holder, children=(), storages=storages, parameters=(one.parameter,))
            _sums_of_adapter(adapters, adapter, counted_elsewhere).add(path, 1, layer)


def _held_adapter(file: str) -> str:
    """What tells an adapter that is held so from the others of its base model."""
    return f"{file} {HELD_BY_FORWARD}" if file else HELD_BY_FORWARD


def _file_of(root: int, forest: Forest) -> str:
    """A file that something below this module came from; empty where none is known."""
    waiting = [root]
    for _ in range(STEP):
        if not waiting:
            break
        key = waiting.pop()
        for storage in forest.readings[key].storages:
            if storage.origin is not None and storage.origin.path:
                return checkpoint_of(storage.origin.path)
        waiting += [child for _, child in forest.children(key) if child in forest.readings]
    return ""


def _finish(
    part: Part,
    adapter: str | None,
    class_name: str,
    sums: _Sums,
    members: Set[int],
    counted_elsewhere: Set[tuple[str, int]],
    models: list[FoundModel],
) -> Iterator[None]:
    """Append the model to `models` if it holds memory; all its modules have been added to the sums."""
    keep: list[int] = []
    needed_depth = -1
    # Going backwards through a preorder, the first module one level above a kept one is its parent.
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
    rows: dict[int, int] = {}
    for row, position in enumerate(keep):
        rows[position] = row
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
            target.append((rows[layer], device, dtype, size))
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
            counted_elsewhere=counted_elsewhere & sums.storages.keys() if counted_elsewhere else frozenset(),
            shared_within=sums.shared_within,
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
            attribute_names=frozenset(sums.tensor_names),
            adapter_bytes=sums.adapter_bytes,
            attached_to=sums.attached_to,
            unread=sums.unread,
        )
    )


@never_pickled
class _TreeColumns:
    """The columns of a layer tree that is being built."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.depths: list[int] = []
        self.class_names: dict[str, int] = {}
        self.classes: list[int] = []
        self.parameters: list[int] = []
        self.keys: list[int] = []


@never_pickled
class _Sums:
    """The rows and sums of a model, built up while its modules are visited in preorder."""

    def __init__(self, counted_elsewhere: Set[tuple[str, int]]) -> None:
        self._counted_elsewhere = counted_elsewhere
        self._parameters_seen: set[int] = set()
        self._adapter_depth: int | None = None
        self.names: list[str] = []
        self.depths: list[int] = []
        self.classes: list[str] = []
        self.parameters: list[int] = []
        self.keys: list[int] = []
        self.touched: set[int] = set()
        """Positions of the modules that hold memory themselves, known or unknown."""
        self.storages: dict[tuple[str, int], int] = {}
        self.shared_within: set[tuple[str, int]] = set()
        self.devices: dict[str, int] = {}
        self.dtypes: dict[str, int] = {}
        self.memory: dict[_MemoryKey, int] = {}
        self.shared: dict[_MemoryKey, int] = {}
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
        """Add the next module in preorder, or a part of one, which has no key."""
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
        """Append a row to the tree."""
        self.names.append(name)
        self.depths.append(depth)
        self.classes.append(class_name)
        self.parameters.append(parameters)
        self.keys.append(key)

    def free_in_steps(self) -> Iterator[None]:
        """Free the sums in steps: those of a large model are some hundred thousand objects."""
        for name in list(vars(self)):
            delattr(self, name)
            yield

    def _add_storage(self, position: int, storage: TensorStorage) -> None:
        key, dtype, size, origin, tensor = storage
        self.tensor_names.add(tensor)
        if not size:
            return
        device = key[0]
        self.touched.add(position)
        entry = (position, self.devices.setdefault(device, len(self.devices)), self.dtypes.setdefault(dtype, len(self.dtypes)))
        if origin is not None and key not in self.storages:
            source = (origin.path, origin.source)
            self.bytes_by_origin[source] = self.bytes_by_origin.get(source, 0) + size
            if origin.stamp is not None:
                self.stamps[origin.path] = origin.stamp
        if key in self.storages or key in self._counted_elsewhere:
            self.shared[entry] = self.shared.get(entry, 0) + size
            if key in self.storages:
                self.shared_within.add(key)
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
"""How names of adapters' modules and tensors begin: PEFT's, LyCORIS's and kohya's, `lora_unet_…` included."""

_TABLES: Final = """
lora_A lora_B lora_E lora_diag lora_embedding_A lora_embedding_B lora_magnitude_vector
hada_w1_a hada_w1_b hada_w2_a hada_w2_b hada_t1 hada_t2 lokr_w1 lokr_w1_a lokr_w1_b lokr_w2 lokr_w2_a lokr_w2_b lokr_t2
oft_R oft_r oft_embedding_R boft_R boft_s ia3_l vera_lambda_b vera_lambda_d randlora_lambda randlora_gamma hra_u
fourierft_spectrum
"""
PEFT_TABLES: Final = frozenset(_TABLES.split())
"""Names of the containers in which PEFT keeps, by the adapter's name, what each adapter adds to a layer."""
