"""What differs between two documents. Nothing is said of a figure that one of them doesn't know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from gpumodels_tui.comparing import matching
from gpumodels_tui.comparing.documents import DeviceMemory, Document, Gpu, Model, Process

OFF: Final = "disk, asleep or not loaded"
"""Where the bytes of a model are that are in no device's memory and not in host memory."""
PARTS: Final = (
    ("gradients", "gradients_bytes"),
    ("optimizer", "optimizer_bytes"),
    ("KV caches", "cache_bytes"),
    ("other", "other_bytes"),
    ("outside torch", "outside_torch_bytes"),
)

What = Literal["came", "went", "reloaded", "renamed", "moved", "grew", "shrank", "started", "ended", "restarted", "used", "part"]


class Move(Struct, frozen=True):
    """Bytes that left one place while as many came to another."""

    bytes: int
    source: str
    target: str


class Change(Struct, frozen=True):
    """One thing that differs."""

    what: What
    name: str
    """Of the model, the process, the device or the part of its memory."""
    where: str = ""
    """The device; of a model that came or went all its places with their bytes are in `places`."""
    before_bytes: int | None = None
    after_bytes: int | None = None
    places: dict[str, int] = {}
    """Bytes by place; of a model that grew or shrank the difference."""
    move: Move | None = None
    previous: str | None = None
    """The model's name, or the process's pid, before."""


class ProcessDifference(Struct, frozen=True):
    """All that differs in one process."""

    name: str
    pid: int
    changes: tuple[Change, ...]


class Difference(Struct, frozen=True):
    """Between two documents."""

    before_at: str | None
    after_at: str | None
    before_host: str | None
    after_host: str | None
    devices: tuple[Change, ...]
    processes: tuple[ProcessDifference, ...]


def difference(before: Document, after: Document) -> Difference:
    """All that differs."""
    names = _Places((*before.gpus, *after.gpus))
    found = []
    for old, new, is_same in matching.processes(before, after):
        process = new or old
        if process is not None and (changes := tuple(_of_process(old, new, is_same, names))):
            found.append(ProcessDifference(process_name(process), process.pid, changes))
    devices = tuple(_of_devices(before, after, names))
    return Difference(before.taken_at, after.taken_at, before.host, after.host, devices, tuple(found))


def process_name(process: Process) -> str:
    """Its label; of one that is a path, the end of it."""
    return without_folders(process.label or "process")


def without_folders(name: str) -> str:
    """The name as it may be shown to others: of paths their last part; `Qwen/Qwen3-8B` is none."""
    return " ".join(Path(word).name if word.startswith(("/", "~", "./", "../")) else word for word in name.split(" "))


class _Places:
    """What devices are called: `GPU 0` for all that a process may call `cuda:1`."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._numbers = {gpu.uuid: gpu.index for gpu in gpus if gpu.uuid is not None and gpu.index is not None}

    def of_gpu(self, uuid: str | None, device: str) -> str:
        if device == "cpu":
            return "host"
        return f"GPU {self._numbers[uuid]}" if uuid in self._numbers else device

    def of_model(self, model: Model, process: Process) -> dict[str, int]:
        uuids = {memory.device: memory.uuid for memory in process.devices}
        places: dict[str, int] = {}
        for device, size in (model.bytes_by_device or {}).items():
            place = self.of_gpu(uuids.get(device), device)
            if size and device != "meta":
                places[place] = places.get(place, 0) + size
        return places


def _of_devices(before: Document, after: Document, names: _Places) -> Iterator[Change]:
    if before.host != after.host:
        return
    for old, new in matching.paired(before.gpus, after.gpus, lambda gpu: gpu.uuid):
        if old.used_bytes is not None and new.used_bytes is not None and old.used_bytes != new.used_bytes:
            yield Change("used", new.name or "", names.of_gpu(new.uuid, "GPU"), old.used_bytes, new.used_bytes)


def _of_process(old: Process | None, new: Process | None, is_same: bool, names: _Places) -> Iterator[Change]:
    if new is None or old is None:
        one = new or old
        assert one is not None
        yield Change("ended" if new is None else "started", process_name(one))
    elif not is_same:
        yield Change("restarted", process_name(new), previous=str(old.pid))
    elif old.state != new.state and new.state in ("dead", "exited"):
        yield Change("ended", process_name(new))
    if old is not None and new is not None and (old.started_at is None) is not (new.started_at is None):
        return  # one of the documents could not read the process: what it held is not known
    before, after = () if old is None else old.models, () if new is None else new.models
    for model, now in matching.models(before, after, same_process=is_same):
        if model is not None and now is not None and old is not None and new is not None:
            yield from _of_model(model, now, old, new, names, is_same)
        elif now is not None and new is not None:
            places = names.of_model(now, new)
            yield Change("came", now.name, after_bytes=sum(places.values()), places=places)
        elif model is not None and old is not None:
            places = names.of_model(model, old)
            yield Change("went", model.name, before_bytes=sum(places.values()), places=places)
    if old is not None and new is not None:
        for memory, its in matching.paired(old.devices, new.devices, lambda one: names.of_gpu(one.uuid, one.device)):
            yield from _of_parts(memory, its, names.of_gpu(its.uuid, its.device))


def _of_model(old: Model, new: Model, before: Process, after: Process, names: _Places, is_same: bool) -> Iterator[Change]:
    was, now = names.of_model(old, before), names.of_model(new, after)
    if not is_same or old.id != new.id:
        yield Change("reloaded", new.name, before_bytes=sum(was.values()), after_bytes=sum(now.values()), places=now)
    if old.name != new.name:
        yield Change("renamed", new.name, previous=old.name)
    if old.bytes_by_device is None or new.bytes_by_device is None:
        return
    if old.offloaded_bytes is not None and new.offloaded_bytes is not None:
        was[OFF] = max(old.offloaded_bytes - was.get("host", 0), 0)
        now[OFF] = max(new.offloaded_bytes - now.get("host", 0), 0)
    change = {place: now.get(place, 0) - was.get(place, 0) for place in {**was, **now}}
    for target in [place for place, size in change.items() if size > 0]:
        for source in [place for place, size in change.items() if size < 0]:
            size = min(change[target], -change[source])
            if size > 0:
                change[target] -= size
                change[source] += size
                yield Change("moved", new.name, move=Move(size, source, target))
    change.pop(OFF, None)  # what is in no memory neither grows nor shrinks there
    was.pop(OFF, None)
    now.pop(OFF, None)
    more = {place: size for place, size in change.items() if size > 0}
    less = {place: size for place, size in change.items() if size < 0}
    totals = sum(was.values()), sum(now.values())
    if more:
        yield Change("grew", new.name, "", *totals, more)
    if less:
        yield Change("shrank", new.name, "", *totals, less)


def _of_parts(old: DeviceMemory, new: DeviceMemory, where: str) -> Iterator[Change]:
    figures = [(part, getattr(old, field), getattr(new, field)) for part, field in PARTS]
    figures.append(("allocator cache", _kept(old), _kept(new)))
    for part, was, now in figures:
        if was is not None and now is not None and was != now:
            yield Change("part", part, where, was, now)


def _kept(memory: DeviceMemory) -> int | None:
    if memory.reserved_bytes is None or memory.allocated_bytes is None or memory.device == "cpu":
        return None
    return max(memory.reserved_bytes - memory.allocated_bytes, 0)
