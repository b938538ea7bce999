"""Builders for what the screens draw: rows, devices, views. The default view is two GPUs and host memory, simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import replace
from gpumodels_shared.schema import DeviceMemory, Job, LayerTree
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.outside.facts import KnownBy, OutsideFacts, OutsideModel
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.events import Event, EventKind, History
from gpumodels_tui.view.layer_sums import sum_layers
from gpumodels_tui.view.memory_parts import MemoryPart, memory_parts
from gpumodels_tui.view.outside_models import shown_models
from gpumodels_tui.view.process_rows import ProcessDevice, ProcessRow, UnattachedRow
from gpumodels_tui.view.rows import DeviceRow, ModelRow, View
from snapshots import GIB, MIB, NOON_NS, WAN, a_model, a_process, a_snapshot, a_tree, packed_tree

NOON_SECONDS: Final = NOON_NS / 1e9
DAY_SECONDS: Final = 86_400.0
PLACES: Final = {"cuda:0": "0", "cuda:1": "1", "cpu": "host"}
KEYS: Final = {"cuda:0": "gpu:0", "cuda:1": "gpu:1", "cpu": "host"}
"""What the lists call the devices that a process calls so."""
SMALL_LAYERS: Final = {
    "blocks.0.attn": 6 * MIB,
    "blocks.0.ffn": 9 * MIB,
    "blocks.1.attn": 6 * MIB,
    "blocks.1.ffn": 9 * MIB,
    "head": 50 * MIB,
}


def a_row(
    name: str = WAN,
    on_bytes: int = 2 * GIB,
    kind: str = "checkpoint",
    *,
    off_bytes: int = 0,
    layers: int = 145,
    dtype: str = "bfloat16",
    age_seconds: float = 120,
    note: str = "",
    device: str = "cuda:0",
    tree: LayerTree | None = None,
    pid: int = 4711,
    label: str = "ComfyUI/main.py",
    class_name: str = "WanModel",
    facts: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
    files: Sequence[str] = (),
    file_sizes: Mapping[str, int] | None = None,
    candidates: Sequence[str] = (),
    key: str | None = None,
    parent_key: str | None = None,
) -> ModelRow:
    """One model's row; its key is its name unless told otherwise."""
    model = a_model(
        name,
        on_bytes,
        kind,
        device=device,
        off_bytes=off_bytes,
        layers=layers,
        dtypes={dtype.removesuffix("+"): on_bytes + off_bytes},
        class_name=class_name,
        name_source="mapped file",
        files=files,
        candidates=candidates,
        loaded_at_ns=NOON_NS - int(age_seconds * 1e9),
        tree=tree,
    )
    return ModelRow(
        key=name if key is None else key,
        name=name,
        kind=kind,
        on_bytes=on_bytes,
        off_bytes=off_bytes,
        layers=layers,
        dtype=dtype,
        loaded_at_ns=model.loaded_at_ns,
        process=f"{label} {pid}",
        model=model,
        process_state=replace(a_live_process(pid), trees={} if tree is None else {model.id: packed_tree(tree)}),
        facts=facts or {},
        note=note,
        metadata=metadata or {},
        parent_key=parent_key,
        device_labels=PLACES,
        device_keys=KEYS,
        file_sizes=file_sizes or {},
    )


def a_rank(
    rank: int,
    on_bytes: int,
    name: str = "Llama",
    kind: str = "llm",
    *,
    world_size: int = 4,
    job: str = "node1:29500",
    key: str | None = None,
    liveness: Liveness = Liveness.LIVE,
    **more: object,
) -> ModelRow:
    """A model's row in one rank of a torchrun job, as process 100 and so on."""
    own = a_process("train.py", 100 + rank, rank=rank, job=Job(job, "torchrun", rank, world_size))
    held = a_snapshot(a_model(name, on_bytes), process=own, devices=[DeviceMemory("cuda:0", on_bytes, allocated_bytes=on_bytes)])
    state = replace(a_live_process(100 + rank), key=f"{job} {rank}", snapshot=held, liveness=liveness)
    row = a_row(name, on_bytes, kind, label="train.py", pid=100 + rank, key=key or f"{name} {rank}", class_name="Llama")
    return replace(row, process_state=state, process=f"train.py (rank {rank}) {100 + rank}", **more)


def a_small_model(layers: Mapping[str, int] | None = None, **more: object) -> ModelRow:
    """`small`, of two blocks and a head, or of these layers, on GPU 0."""
    return replace(a_row("small", 80 * MIB, tree=a_tree(layers or SMALL_LAYERS, device="cuda:0")), **more)


def an_unattached(pid: int = 2222, used_bytes: int | None = 3 * GIB, command: str = "python serve.py") -> UnattachedRow:
    """A process without a sidecar."""
    return UnattachedRow(f"pid:{pid}", pid, command, "eve", used_bytes, NOON_NS - 3600 * 10**9)


def a_llama_server(pid: int = 2222, used_bytes: int | None = 3 * GIB, **more: object) -> UnattachedRow:
    """A process without a sidecar that has a model's file mapped, and names a LoRA."""
    models = (
        OutsideModel(KnownBy.MAPPED, ("/m/Qwen3-8B-Q4_K_M.gguf",), file_bytes=5 * GIB, mapped_bytes=5 * GIB),
        OutsideModel(KnownBy.ARGUMENT, stated=("ada/style",), said_by="--lora"),
    )
    shown = shown_models(OutsideFacts(models), CatalogueState())
    row = replace(an_unattached(pid, used_bytes, "llama-server -m Qwen3-8B-Q4_K_M.gguf"), program="llama-server", models=shown)
    return replace(row, **more)


def some_parts(
    models: Sequence[ModelRow], used_bytes: int | None, *, cache: int = 0, allocator: int = 0
) -> tuple[MemoryPart, ...]:
    """Where the used bytes went: these models, their caches, the allocator's, and the rest outside torch."""
    held = sum(row.on_bytes for row in models) + cache
    memory = DeviceMemory("cuda:0", held - cache, allocated_bytes=held, reserved_bytes=held + allocator, cache_bytes=cache)
    return memory_parts([(row.key, row.on_bytes) for row in models], [memory], used_bytes)


def a_live_process(pid: int = 4711) -> ProcessState:
    """What a row says of where it comes from."""
    snapshot = a_snapshot(process=a_process(pid=pid, rank=0))
    return ProcessState(f"process {pid}", Path(f"/dev/shm/gpumodels-0/{pid}.gpm"), pid, "me", Liveness.LIVE, snapshot)


def a_gpu(
    *models: ModelRow,
    index: int = 0,
    used_bytes: int | None = 38 * GIB,
    total_bytes: int | None = 80 * GIB,
    utilization_percent: int | None = 87,
    temperature_celsius: int | None = 64,
    power_watts: float | None = 412.0,
    title: str | None = None,
    unattached: Sequence[UnattachedRow] = (),
    cache: int = 0,
    allocator: int = 0,
) -> DeviceRow:
    """A GPU with these models."""
    return DeviceRow(
        key=f"gpu:{index}",
        number=index + 1,
        title=f"GPU {index}  Simulated H100 80GB" if title is None else title,
        used_bytes=used_bytes,
        total_bytes=total_bytes,
        utilization_percent=utilization_percent,
        temperature_celsius=temperature_celsius,
        power_watts=power_watts,
        models=models,
        parts=some_parts(models, used_bytes, cache=cache, allocator=allocator),
        unattached=tuple(unattached),
        label=str(index),
    )


def a_host(*models: ModelRow, number: int = 1, used_bytes: int = 21 * GIB) -> DeviceRow:
    """Host memory with these models."""
    return DeviceRow(
        "host",
        number,
        "Host memory",
        used_bytes,
        126 * GIB,
        None,
        None,
        None,
        models,
        some_parts(models, used_bytes),
        label="host",
    )


def a_view(*devices: DeviceRow, warnings: Sequence[str] = (), processes: int = 1) -> View:
    """A view of these devices."""
    states = tuple(a_live_process(4711 + count) for count in range(processes))
    return View(devices, states, tuple(warnings), ("/dev/shm/gpumodels-0",), some_process_rows(devices))


def models(**sizes: int) -> View:
    """One GPU with models of these names and bytes."""
    rows = [a_row(name, size) for name, size in sizes.items()]
    return a_view(a_gpu(*sorted(rows, key=lambda row: -row.on_bytes)))


def many_models(count: int) -> View:
    """One GPU with so many models, the largest first: `model-00`, `model-01`, …"""
    return a_view(a_gpu(*(a_row(f"model-{number:02d}", (count - number) * GIB) for number in range(count))))


def some_process_rows(devices: Sequence[DeviceRow]) -> tuple[ProcessRow, ...]:
    """Each process that a row is of, with a bar per device; then those without a sidecar."""
    found: dict[str, ProcessRow] = {}
    for device in devices:
        for row in device.models:
            state = row.process_state
            own = [other for other in device.models if other.process_state.key == state.key]
            place = ProcessDevice(device.key, None, device.title, some_parts(own, None, allocator=GIB), device.total_bytes)
            known = found.get(state.key) or ProcessRow(
                state.key, row.process, state.pid, "me", "python main.py", NOON_NS - 7200 * 10**9, state, ()
            )
            if device.key not in {other.key for other in known.devices}:
                found[state.key] = replace(known, devices=(*known.devices, place))
        for one in device.unattached:
            place = ProcessDevice(device.key, None, device.title, memory_parts([], [], one.used_bytes), device.total_bytes)
            title = f"{one.command} {one.pid}"
            found[one.key] = ProcessRow(one.key, title, one.pid, one.user, one.command, one.started_at_ns, None, (place,), one)
    return tuple(found.values())


def a_wan_tree(size: int, blocks: int = 40, device: str = "cuda:0", off_from: int | None = None) -> LayerTree:
    """A video transformer of `size` bytes, roughly; blocks from `off_from` on are in host memory."""
    weights = {"self_attn.q": 4, "self_attn.k": 4, "self_attn.v": 4, "self_attn.o": 4, "ffn.0": 14, "ffn.2": 14}
    layers = {
        f"blocks.{block:02d}.{part}": size * weight // (sum(weights.values()) * blocks)
        for block in range(blocks)
        for part, weight in weights.items()
    }
    layers |= {"patch_embedding": size // 60, "text_embedding": size // 90, "time_embedding": size // 140, "head": size // 400}
    tree = a_tree(layers, device=device)
    classes = ("WanModel", "ModuleList", "WanAttentionBlock", "WanSelfAttention", "Linear", "Sequential")
    kinds = tuple(_wan_class(name, depth) for name, depth in zip(tree.names, tree.depths, strict=True))
    names = tuple(
        str(int(name)) if depth == 2 and name.isdigit() else name for name, depth in zip(tree.names, tree.depths, strict=True)
    )
    devices = (device, "cpu")
    memory = tree.memory
    if off_from is not None:
        first = [layer for layer, depth in enumerate(tree.depths) if depth == 2][off_from]
        last = next(layer for layer in range(first, len(tree.depths)) if tree.depths[layer] == 1)
        memory = tuple((layer, 1 if first <= layer < last else place, dtype, count) for layer, place, dtype, count in memory)
    return LayerTree(names, tree.depths, classes, kinds, tree.parameters, devices, tree.dtypes, memory)


def _wan_class(name: str, depth: int) -> int:
    if depth == 0:
        return 0
    if depth == 1:
        return 1 if name == "blocks" else 4
    if depth == 2:
        return 2
    return {"self_attn": 3, "ffn": 5}.get(name, 4)


def a_full_view(warnings: Sequence[str] = ()) -> View:
    """Two GPUs and host memory, as a server that makes videos and serves a chat would show them."""
    tree = a_wan_tree(26 * GIB, off_from=22)
    sums = sum_layers(tree, "cuda:0")
    on_bytes, off_bytes, layers = sums.on_bytes[0], sums.off_bytes[0], len(tree.names)
    file = f"/srv/models/diffusion_models/wan/{WAN}_bf16.safetensors"
    wan = a_row(
        WAN,
        on_bytes,
        off_bytes=off_bytes,
        layers=layers,
        tree=tree,
        files=[file],
        file_sizes={file: on_bytes + off_bytes},
        facts={"title": "Wan 2.2 T2V 14B, high noise", "base model": "Wan 2.1 14B", "author": "Wan-AI", "license": "Apache-2.0"},
        metadata={"model_type": WAN},
    )
    encoder = a_row(
        "umt5-xxl-enc", 6 * GIB, "clip", dtype="float8_e4m3fn+", layers=242, class_name="T5EncoderModel", age_seconds=130
    )
    depth = a_row("VACE-Depth", 512 * MIB, "model", layers=45, age_seconds=3700, class_name="VaceDepth")
    vae = a_row("wan_2.1_vae", 254 * MIB, "vae", layers=101, dtype="float16", class_name="WanVAE")
    lora = a_row("MyLoRA", 128 * MIB, "lora", layers=32, age_seconds=12, class_name="LoraAdapter", parent_key=WAN)
    llama = a_row(
        "Llama-3.1-8B-Instruct",
        15 * GIB,
        "llm",
        layers=291,
        pid=90210,
        label="vllm",
        age_seconds=3 * DAY_SECONDS,
        device="cuda:1",
    )
    minilm = a_row(
        "all-MiniLM-L6-v2", 87 * MIB, "embedding", layers=103, dtype="float32", pid=90210, label="vllm", device="cuda:1"
    )
    offloaded = a_row(WAN, off_bytes, note="offloaded from GPU 0", layers=layers, tree=tree)
    return a_view(
        a_gpu(wan, encoder, depth, vae, lora, allocator=2 * GIB),
        a_gpu(
            llama,
            minilm,
            index=1,
            used_bytes=71 * GIB,
            utilization_percent=41,
            temperature_celsius=58,
            power_watts=287.0,
            unattached=[an_unattached(used_bytes=6 * GIB)],
            cache=44 * GIB,
            allocator=3 * GIB,
        ),
        a_host(offloaded, number=3),
        warnings=warnings,
    )


def some_events() -> tuple[Event, ...]:
    told = [
        (EventKind.MOVED_OFF, WAN, 5 * GIB, WAN),
        (EventKind.LOADED, "umt5-xxl-enc", 6 * GIB, "umt5-xxl-enc"),
        (EventKind.OUT_OF_MEMORY, "vllm 90210", 0, None),
        (EventKind.LOADED, WAN, 27 * GIB, WAN),
        (EventKind.STARTED, "vllm 90210", 0, None),
    ]
    return tuple(
        Event(9 - number, NOON_NS - number * 60 * 10**9, kind, name, "vllm 90210", "0", size, key)
        for number, (kind, name, size, key) in enumerate(told)
    )


def out_of_memory(*held: tuple[str, int], minutes_ago: int = 10) -> Event:
    """GPU 0 ran out, twice, with these models on it."""
    at = NOON_NS - minutes_ago * 60 * 10**9
    kind = EventKind.OUT_OF_MEMORY
    return Event(1, at, kind, "ComfyUI/main.py 4711", "ComfyUI/main.py 4711", "0", 70 * GIB, None, 2, "process 4711", held)


def with_events(view: View, *events: Event) -> View:
    """The view, after these, the newest first."""
    return replace(view, history=History(events))


def a_past(view: View) -> History:
    """An hour in which GPU 0 filled up."""
    start = int(NOON_SECONDS) - 3600
    samples = tuple((start + at, 80 * GIB * at // 3600) for at in range(0, 3600, 5))
    return History(some_events(), {view.devices[0].key: samples})


def a_view_with_a_past() -> View:
    view = a_full_view()
    return replace(view, history=a_past(view))
