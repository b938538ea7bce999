"""For other programs: the processes with a sidecar and their models. The names here are stable; docs/python.md describes them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from gpumodels_shared.decoding import DecodeError, decode_without_trees
from gpumodels_shared.identity import NO_ID, boot_id, pid_namespace, start_ticks
from gpumodels_shared.layout import Heartbeat, LayoutError, WriterState
from gpumodels_shared.liveness import STALLED_AFTER_BEATS
from gpumodels_shared.name_sources import MIN_NAME_CONFIDENCE
from gpumodels_shared.pid_namespaces import pid_from_outside
from gpumodels_shared.places import check_directory, default_directory, other_users_directories, snapshot_files
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Model, Snapshot
from gpumodels_shared.visible_devices import stated_uuid

State: TypeAlias = Literal["live", "stalled", "exited", "dead"]

MAX_FILES: Final = 1024
"""Files opened per directory: sidecars keep those of 64 ended processes at most, and a directory may be anybody's."""

LONGEST_LABEL: Final = 200


@dataclass(frozen=True, slots=True)
class ProcessModel:
    """A model that a process holds. Text is safe to print; paths are as the process gave them."""

    id: str
    """Unique within its process, and constant while the model lives."""
    name: str
    """The name that people know it by; its class where `is_named` is false."""
    is_named: bool
    """Whether the name is certain enough to be one."""
    kind: str
    """`checkpoint`, `lora`, `vae`, `clip`, `llm`, …: see docs/json.md."""
    bytes_by_device: Mapping[str, int]
    """Bytes in memory by torch's name of the device: `cuda:0`, `cpu`."""
    bytes_by_gpu: Mapping[str, int]
    """The same by NVML's UUID, for the GPUs whose UUID the process says; the others aren't in it."""
    offloaded_bytes: int
    """Bytes that aren't on the device where it runs: in host memory, on disk or not loaded."""
    files: tuple[str, ...]
    """The model files that it came from; empty if that isn't known."""
    loaded_at_ns: int
    """When the sidecar saw it first, realtime nanoseconds."""
    parent: str | None
    """Of an adapter: the `id` of the model that it is applied to."""

    @property
    def resident_bytes(self) -> int:
        """Bytes in memory on all devices."""
        return sum(self.bytes_by_device.values())


@dataclass(frozen=True, slots=True)
class ProcessDevice:
    """One device as one process's allocator sees it. What isn't known is None."""

    device: str
    """torch's name, `cuda:0`, which means nothing outside the process's CUDA_VISIBLE_DEVICES."""
    gpu_uuid: str | None
    """NVML's UUID, if the process says it; of a MIG slice, CUDA may give that of its GPU."""
    models_bytes: int
    allocated_bytes: int | None
    reserved_bytes: int | None


@dataclass(frozen=True, slots=True)
class Process:
    """A process with a sidecar, as it last said."""

    pid: int | None
    """As seen from here, which is what NVML and `ps` call it. None of a process in a container that can't be found from here,
    and of one that has ended, as its number may be another's by now."""
    uid: int
    """Who owns the snapshot file."""
    label: str
    """From its command line, or from `start(label=…)`: `ComfyUI/main.py`. Safe to print."""
    state: State
    """`stalled`: it exists, but gave no sign of life for ten of its intervals."""
    snapshot_at_ns: int | None
    """When what follows was written, realtime nanoseconds; None if nothing was yet."""
    models: tuple[ProcessModel, ...]
    """The largest first."""
    devices: tuple[ProcessDevice, ...]


class _Known(NamedTuple):
    """What the last call found in a file."""

    instance_id: bytes
    beat: int
    beat_at: float
    """When that beat came, by this process's monotonic clock."""
    seq: int
    snapshot: Snapshot | None
    snapshot_at_ns: int | None


_known: dict[Path, _Known] = {}
"""By file. Two threads may overwrite each other's entries, which costs them a decoding and nothing else."""


def processes(
    directories: Iterable[Path | str] | None = None,
    *,
    include_ended: bool = False,
    on_problem: Callable[[Path, str], object] | None = None,
) -> tuple[Process, ...]:
    """The processes with a sidecar that the caller may read, those of one user together. Never raises because of a file.

    Args:
        directories: where the snapshot files are; by default GPUMODELS_DIR, else the caller's own, and those of all users for
            root, or of the group in GPUMODELS_GROUP.
        include_ended: also those that have ended, with what they held last: sidecars keep their files for a day.
        on_problem: called with each file or directory that can't be read or trusted, and the reason in one line.
    """
    report = on_problem or (lambda path, reason: None)
    found: list[Process] = []
    if directories is None:
        chosen = [default_directory(), *([] if os.environ.get("GPUMODELS_DIR") else other_users_directories())]
    else:
        chosen = [Path(directory).expanduser() for directory in directories]
    for directory in dict.fromkeys(chosen):
        try:
            owner = check_directory(directory, None if os.geteuid() == 0 else {os.geteuid()}, accept_shared=True)
            paths = [directory / name for name in snapshot_files(directory)]
        except FileNotFoundError:
            paths = []
            if directories is not None:
                report(directory, "no such directory")
        except OSError as error:
            paths = []
            report(directory, error.strerror or str(error))
        for gone in [path for path in _known if path.parent == directory and path not in set(paths)]:
            _known.pop(gone, None)
        if len(paths) > MAX_FILES:
            report(directory, f"holds {len(paths)} files; only {MAX_FILES} are read")
        for path in paths[:MAX_FILES]:
            try:
                process = _read(path, owner, include_ended, report)
            except (LayoutError, OSError) as error:
                report(path, (error.strerror if isinstance(error, OSError) else None) or str(error))
            else:
                if process is not None:
                    found.append(process)
    return tuple(found)


def _read(path: Path, owner: int, include_ended: bool, report: Callable[[Path, str], object]) -> Process | None:
    """The file's process; None if it has ended and isn't asked for.

    Raises:
        LayoutError, OSError: nothing of it can be read.
    """
    reader = SnapshotReader(path, owner)
    try:
        if reader.heartbeat().state is WriterState.SUPERSEDED:  # it was opened just before a larger file took its name
            reader.close()
            reader = SnapshotReader(path, owner)
        heartbeat = reader.heartbeat()
        is_local = reader.header.boot_id != NO_ID and (reader.header.boot_id, reader.header.pid_namespace) == _this_machine()
        known = _known.get(path)
        if known is not None and known.instance_id != reader.header.instance_id:
            known = None
        beat_at = _beat_at(known, heartbeat)
        state: State
        is_held = reader.is_locked() and not (is_local and _is_gone(reader.header.pid, reader.header.start_ticks))
        if is_held:
            patience_seconds = STALLED_AFTER_BEATS * max(reader.header.heartbeat_ms, 1) / 1000
            state = "stalled" if time.monotonic() - beat_at > patience_seconds else "live"
        else:
            state = "exited" if reader.heartbeat().state is WriterState.EXITED else "dead"
            if not include_ended:
                return None
        snapshot, snapshot_at_ns = (None, None) if known is None else (known.snapshot, known.snapshot_at_ns)
        seq = 0 if known is None else known.seq
        if heartbeat.last_seq != seq:
            try:
                payload = reader.latest()
                if payload is not None:
                    (snapshot, _), snapshot_at_ns = decode_without_trees(payload.data), payload.realtime_ns
                seq = heartbeat.last_seq
            except (LayoutError, DecodeError) as error:  # what was read before remains true of then
                report(path, str(error))
        _known[path] = _Known(reader.header.instance_id, heartbeat.beat, beat_at, seq, snapshot, snapshot_at_ns)
        if not is_local:
            pid = pid_from_outside(reader.header, reader.inode)
        else:
            lives = is_held or start_ticks(reader.header.pid) == reader.header.start_ticks
            pid = reader.header.pid if lives else None
    finally:
        reader.close()
    return _described(pid, owner, state, snapshot, snapshot_at_ns)


def _beat_at(known: _Known | None, heartbeat: Heartbeat) -> float:
    """When this beat came. A reader that sees the file for the first time has only the writer's own clock to go by."""
    if known is not None and known.beat == heartbeat.beat:
        return known.beat_at
    silent_seconds = 0.0 if known is not None else max(0.0, (time.time_ns() - heartbeat.realtime_ns) / 1e9)
    return time.monotonic() - silent_seconds


def _described(pid: int | None, owner: int, state: State, snapshot: Snapshot | None, snapshot_at_ns: int | None) -> Process:
    if snapshot is None:
        return Process(pid, owner, "process", state, None, (), ())
    devices = tuple(
        ProcessDevice(
            safe_text(memory.device),
            stated_uuid(snapshot.process, memory),
            memory.models_bytes,
            memory.allocated_bytes,
            memory.reserved_bytes,
        )
        for memory in snapshot.devices
    )
    uuids = {device.device: device.gpu_uuid for device in devices if device.gpu_uuid is not None}
    return Process(
        pid=pid,
        uid=owner,
        label=safe_text(snapshot.process.label, LONGEST_LABEL),
        state=state,
        snapshot_at_ns=snapshot_at_ns,
        models=tuple(_model(model, uuids) for model in snapshot.models),
        devices=devices,
    )


def _model(model: Model, uuids: Mapping[str, str]) -> ProcessModel:
    by_gpu: dict[str, int] = {}
    for device, size in model.bytes_by_device.items():
        if (uuid := uuids.get(device)) is not None:
            by_gpu[uuid] = by_gpu.get(uuid, 0) + size
    return ProcessModel(
        id=model.id,
        name=safe_text(model.name),
        is_named=model.confidence >= MIN_NAME_CONFIDENCE,
        kind=safe_text(model.kind, 20),
        bytes_by_device=dict(model.bytes_by_device),
        bytes_by_gpu=by_gpu,
        offloaded_bytes=model.offloaded_bytes,
        files=model.files,
        loaded_at_ns=model.loaded_at_ns,
        parent=model.parent,
    )


def _is_gone(pid: int, ticks: int) -> bool:
    """Whether the kernel no longer knows the process, even if the lock is held: a forked child may have inherited it."""
    return bool(ticks) and start_ticks(pid) != ticks


@cache
def _this_machine() -> tuple[bytes, int]:
    return boot_id(), pid_namespace()
