"""Builders for what the tests hand around: models, snapshots, processes, GPUs, file facts; defaults are true together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gpumodels_shared.codec import Encoder, encode
from gpumodels_shared.decoding import decode_tree
from gpumodels_shared.identity import ProcessIdentity, this_process
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import DeviceMemory, Job, LayerTree, Model, ProcessInfo, SidecarHealth, Snapshot
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts
from gpumodels_tui.sources.feed import FeedState, ProcessState, Unreadable
from gpumodels_tui.sources.gpu_reading import GpuReading
from gpumodels_tui.sources.gpus import HardwareState

MIB: Final = 1024**2
GIB: Final = 1024**3

NOON_NS: Final = 1_780_000_000_000_000_000
"""The moment at which hand-made snapshots are taken: 2026-05-28T20:26:40Z."""
MINUTE_NS: Final = 60 * 1_000_000_000

H100: Final = "GPU-11111111-2222-3333-4444-555555555555"
A100: Final = "GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"

WAN: Final = "Wan2_2-T2V-A14B-HIGH"


def a_tree(layers: Mapping[str, int], class_name: str = "Block", device: str = "cpu", dtype: str = "bfloat16") -> LayerTree:
    """A tree from dotted paths and the bytes each holds itself, `{"blocks.0.attn": 512}`; what lies between comes by itself."""
    paths = {""}
    for path in layers:
        parts = path.split(".")
        paths.update(".".join(parts[: count + 1]) for count in range(len(parts)))
    ordered = sorted(paths, key=lambda path: path.split(".") if path else [])
    own = [layers.get(path, 0) for path in ordered]
    return LayerTree(
        names=tuple(path.rpartition(".")[2] for path in ordered),
        depths=tuple(path.count(".") + 1 if path else 0 for path in ordered),
        class_names=(class_name,),
        classes=(0,) * len(ordered),
        parameters=tuple(size // 2 for size in own),
        devices=(device,),
        dtypes=(dtype,),
        memory=tuple((index, 0, 0, size) for index, size in enumerate(own) if size),
    )


def a_model(
    name: str = WAN,
    size: int = 2 * GIB,
    kind: str = "checkpoint",
    *,
    device: str = "cpu",
    off_bytes: int = 0,
    bytes_by_device: Mapping[str, int] | None = None,
    layers: int = 145,
    dtypes: Mapping[str, int] | None = None,
    id: str | None = None,
    class_name: str = "WanModel",
    name_source: str = "file",
    confidence: float = 0.99,
    files: Sequence[str | Path] = (),
    metadata: Mapping[str, str] | None = None,
    loaded_at_ns: int = NOON_NS - 2 * MINUTE_NS,
    candidates: Sequence[str] = (),
    architecture: str | None = None,
    parent: str | None = None,
    adapters: Sequence[str] = (),
    slot: str | None = None,
    tree: LayerTree | None = None,
) -> Model:
    """A model with `size` bytes on `device` and `off_bytes` of it in host memory, unless `bytes_by_device` says otherwise."""
    if bytes_by_device is None:
        bytes_by_device = {place: count for place, count in ((device, size), ("cpu", off_bytes)) if count}
    return Model(
        id=id or name.lower(),
        name=name,
        kind=kind,
        class_name=class_name,
        loaded_at_ns=loaded_at_ns,
        bytes_by_device=bytes_by_device,
        layers=layers,
        parameters=sum(bytes_by_device.values()) // 2,
        dtypes=dtypes if dtypes is not None else {"bfloat16": sum(bytes_by_device.values())},
        name_source=name_source,
        confidence=confidence,
        candidates=tuple(candidates),
        architecture=architecture,
        files=tuple(str(file) for file in files),
        device=device,
        offloaded_bytes=off_bytes,
        metadata=dict(metadata or {}),
        parent=parent,
        adapters=tuple(adapters),
        slot=slot,
        tree=tree,
    )


def a_process(
    label: str = "ComfyUI/main.py",
    pid: int = 4711,
    *,
    command: Sequence[str] = ("python", "main.py"),
    interval_seconds: float = 1.0,
    visible_devices: str | None = None,
    device_order: str | None = None,
    rank: int | None = None,
    job: Job | None = None,
    platform: str | None = None,
    device_choice: Mapping[str, str] | None = None,
) -> ProcessInfo:
    """A process that started an hour before its snapshot."""
    return ProcessInfo(
        pid=pid,
        uid=1000,
        label=label,
        command=tuple(command),
        started_at_ns=NOON_NS - 60 * MINUTE_NS,
        python_version="3.11.9",
        sidecar_version="0.1.0",
        interval_seconds=interval_seconds,
        torch_version="2.13.0",
        rank=rank,
        job=job,
        visible_devices=visible_devices,
        device_order=device_order,
        platform=platform,
        device_choice=dict(device_choice or {}),
    )


def a_device(
    device: str = "cuda:0",
    models_bytes: int = 0,
    uuid: str | None = None,
    *,
    name: str | None = None,
    total_bytes: int | None = None,
    simulated: bool = False,
    allocated_bytes: int | None = None,
    reserved_bytes: int | None = None,
) -> DeviceMemory:
    """A device as one process's allocator sees it."""
    return DeviceMemory(device, models_bytes, uuid, name, total_bytes, simulated, allocated_bytes, reserved_bytes)


def a_snapshot(
    *models: Model,
    process: ProcessInfo | None = None,
    devices: Sequence[DeviceMemory] | None = None,
    uuids: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    taken_at_ns: int = NOON_NS,
) -> Snapshot:
    """What one process holds. Devices not given are those that the models name, with their bytes; `uuids` says which GPUs."""
    if devices is None:
        named = sorted({device for model in models for device in (*model.bytes_by_device, model.device or "cpu")})
        devices = [
            DeviceMemory(
                device=device,
                models_bytes=sum(model.bytes_by_device.get(device, 0) for model in models),
                uuid=(uuids or {}).get(device),
            )
            for device in named
        ]
    return Snapshot(
        taken_at_ns=taken_at_ns,
        process=process or a_process(),
        devices=tuple(devices),
        models=tuple(sorted(models, key=lambda model: -model.resident_bytes)),
        health=SidecarHealth(scan_seconds=0.001, modules=600),
        warnings=tuple(warnings),
    )


def packed_tree(tree: LayerTree) -> bytes:
    """The layer tree as a snapshot's file has it."""
    return Encoder().encode(tree)


def with_trees(process: ProcessState) -> Snapshot | None:
    """The process's snapshot with all of its layer trees decoded."""
    if process.snapshot is None:
        return None
    trees = {key: decode_tree(packed) for key, packed in process.trees.items()}
    models = tuple(replace(model, tree=trees.get(model.id)) for model in process.snapshot.models)
    return replace(process.snapshot, models=models)


def a_process_state(
    snapshot: Snapshot | None,
    liveness: Liveness = Liveness.LIVE,
    *,
    key: str | None = None,
    pid: int | None = None,
    user: str = "ada",
    problem: str | None = None,
    is_local: bool = True,
    path: Path = Path("/dev/shm/gpumodels-1000/4711-1-0a0a0a0a.gpm"),
) -> ProcessState:
    """A sidecar's file, read just now."""
    shown_pid = pid if pid is not None else snapshot.process.pid if snapshot else 4711
    return ProcessState(
        key=key or str(shown_pid),
        path=path,
        pid=shown_pid,
        user=user,
        liveness=liveness,
        snapshot=snapshot,
        snapshot_at_ns=snapshot.taken_at_ns if snapshot else None,
        trees={model.id: packed_tree(model.tree) for model in (snapshot.models if snapshot else ()) if model.tree is not None},
        problem=problem,
        is_local=is_local,
    )


def a_feed(*snapshots: Snapshot | ProcessState, unreadable: Sequence[Unreadable] = ()) -> FeedState:
    """All files at one moment: snapshots stand for live processes."""
    return FeedState(
        directories=(Path("/dev/shm/gpumodels-1000"),),
        processes=tuple(one if isinstance(one, ProcessState) else a_process_state(one) for one in snapshots),
        unreadable=tuple(unreadable),
    )


def a_gpu(
    index: int = 0,
    uuid: str = H100,
    name: str = "NVIDIA H100 80GB HBM3",
    *,
    used_bytes: int | None = 20 * GIB,
    total_bytes: int | None = 80 * GIB,
    processes: Mapping[int, int | None] | None = None,
) -> GpuReading:
    """One GPU as the driver sees it, at work."""
    return GpuReading(index, uuid, name, total_bytes, used_bytes, 87, 64, 412.5, dict(processes or {}))


def some_hardware(*gpus: GpuReading, problems: Sequence[str] = ()) -> HardwareState:
    """These GPUs in a machine of 256 GB, a quarter of it used."""
    return HardwareState(gpus=gpus, host_total_bytes=256 * GIB, host_used_bytes=64 * GIB, problems=tuple(problems))


def some_facts(path: str | Path, metadata: Mapping[str, str] | None = None, dtypes: Mapping[str, int] | None = None) -> FileFacts:
    """A safetensors file's header."""
    held = dict(dtypes or {})
    return FileFacts(str(path), sum(held.values()), NOON_NS, "safetensors", dict(metadata or {}), len(held), held)


def a_catalogue(*facts: FileFacts, warnings: Sequence[str] = (), pending: int = 0) -> CatalogueState:
    """A catalogue that knows these files by their paths and aliases."""
    by_path = {path: fact for fact in facts for path in (fact.path, *fact.aliases)}
    return CatalogueState(by_path, tuple(warnings), pending)


def an_identity(pid: int | None = None, start_ticks: int | None = None) -> ProcessIdentity:
    """This process's, or one that claims another pid (of another PID namespace, so that nobody looks for it here)."""
    own = this_process()
    if pid is None:
        return own
    return ProcessIdentity(pid, own.uid, 1 if start_ticks is None else start_ticks, own.pid_namespace + 1, own.boot_id)


def published(
    directory: Path, snapshot: Snapshot, identity: ProcessIdentity | None = None, heartbeat_ms: int = 1000
) -> SnapshotWriter:
    """A file in the directory, held by a writer of this process, with one snapshot in it. Close it, or abandon it."""
    directory.chmod(0o700)
    writer = SnapshotWriter(directory, identity or an_identity(snapshot.process.pid), heartbeat_ms)
    writer.publish(encode(snapshot))
    return writer
