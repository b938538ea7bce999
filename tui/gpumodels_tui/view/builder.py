"""Builds the view of feed, hardware and catalogue, anew when one of them changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import Record, replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import SMALL_MODELS_ID, DeviceMemory, Model
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.feed import FeedState, ProcessState
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.view.copied_rows import CopiedRows
from gpumodels_tui.view.device_names import (
    Device,
    Devices,
    device_in_words,
    device_state,
    holds_memory,
    join_devices,
    process_title,
    state_in_words,
)
from gpumodels_tui.view.enrichment import EnrichedModel, enriched, facts_from_files
from gpumodels_tui.view.memory_parts import memory_parts
from gpumodels_tui.view.outside_models import ShownModels
from gpumodels_tui.view.process_rows import ProcessRow, UnattachedRow, attached_row, unattached_rows, without_sidecars
from gpumodels_tui.view.rows import DeviceRow, ModelRow, View, rank

LOADED_BEFORE: Final = "loaded before attaching"
"""It was there when the sidecar came into a live process: from which file, and when, was not seen."""


def build_view(feed: FeedState, hardware: HardwareState, catalogue: CatalogueState) -> View:
    """The view of this moment. Pure: equal input gives an equal view."""
    return ViewBuilder().build(feed, hardware, catalogue)


class _OfProcess(Record):
    """What one process adds to a view, and what it was made from."""

    state: ProcessState
    catalogue: CatalogueState
    keys: Mapping[str, str]
    labels: Mapping[str, str]
    counted: tuple[tuple[str, int | None, int | None], ...]
    """Of each of its devices: title, bytes in all, and the process's as the driver counts."""
    rows: tuple[tuple[str, ModelRow], ...]
    """With the key of the device that each is on."""
    row: ProcessRow


class ViewBuilder:
    """Builds view after view; the rows of a process that says the same as before are made once."""

    def __init__(self) -> None:
        self._made: dict[str, _OfProcess] = {}
        self._outside = ShownModels()
        self._copied = CopiedRows()

    def build(self, feed: FeedState, hardware: HardwareState, catalogue: CatalogueState) -> View:
        """The view of this moment, as `build_view` would have it."""
        processes = tuple(process for process in feed.processes if process.liveness is not Liveness.EXITED)
        failed = tuple(
            process
            for process in feed.processes
            if process.liveness is Liveness.EXITED and process.snapshot is not None and process.snapshot.out_of_memory
        )
        joined = join_devices(replace(feed, processes=processes), hardware)
        by_key = {device.key: device for device in joined.devices}
        keys: dict[str, dict[str, str]] = {process.key: {} for process in processes}
        for (owner, name), key in joined.keys.items():
            keys[owner][name] = key
        by_pid = {f"gpu:{gpu.key}": gpu.processes for gpu in hardware.gpus}
        self._made = {process.key: self._of(process, keys[process.key], by_key, by_pid, catalogue) for process in processes}
        rows = self._copied.by_device([made.rows for made in self._made.values()])
        memories = _memories(processes, joined)
        unattached = unattached_rows(processes, hardware, joined, catalogue, self._outside)
        devices = tuple(
            _device_row(device, number, rows.get(device.key, ()), memories.get(device.key, ()), unattached.get(device.key, ()))
            for number, device in enumerate(joined.devices, start=1)
        )
        return View(
            devices,
            processes,
            warnings_of(feed, hardware, catalogue),
            tuple(map(_shown_path, feed.directories)),
            (*(made.row for made in self._made.values()), *without_sidecars(unattached, by_key)),
            progress=_progress(catalogue),
            failed_and_exited=failed,
        )

    def _of(
        self,
        process: ProcessState,
        keys: Mapping[str, str],
        by_key: Mapping[str, Device],
        by_pid: Mapping[str, Mapping[int, int | None]],
        catalogue: CatalogueState,
    ) -> _OfProcess:
        used = {name: by_pid.get(key, {}).get(process.driver_pid or 0) for name, key in keys.items()}
        labels = {name: by_key[key].label for name, key in keys.items()}
        counted = tuple((by_key[key].title, by_key[key].total_bytes, used[name]) for name, key in keys.items())
        before = self._made.get(process.key)
        if before is not None and not (
            before.state is process and before.catalogue is catalogue and before.keys == keys and before.labels == labels
        ):
            before = None
        if before is not None and before.counted == counted:
            return before
        rows = before.rows if before is not None else tuple(_rows_of(process, keys, labels, catalogue))
        devices = {name: by_key[key] for name, key in keys.items()}
        row = attached_row(process, devices, [(key, row.key, row.on_bytes) for key, row in rows], used)
        return _OfProcess(process, catalogue, keys, labels, counted, rows, row)


def _rows_of(
    process: ProcessState, keys: Mapping[str, str], labels: Mapping[str, str], catalogue: CatalogueState
) -> Iterator[tuple[str, ModelRow]]:
    """Each model on each device that it is on, with the device's key."""
    if process.snapshot is None:
        return
    title = process_title(process)
    for seen in process.snapshot.models:
        one = enriched(seen, catalogue)
        facts = facts_from_files(one)
        for device in devices_of(one.model):
            if (key := keys.get(device)) is not None:
                yield key, _row(process, title, one, facts, device, labels, keys)


def _memories(processes: Sequence[ProcessState], joined: Devices) -> dict[str, list[DeviceMemory]]:
    """What the allocators of the processes that live say of each device."""
    found: dict[str, list[DeviceMemory]] = {}
    for process in processes:
        if process.snapshot is not None and holds_memory(process):
            for memory in process.snapshot.devices:
                if (key := joined.keys.get((process.key, memory.device))) is not None:
                    found.setdefault(key, []).append(memory)
    return found


def _device_row(
    device: Device,
    number: int,
    rows: Sequence[ModelRow],
    memories: Sequence[DeviceMemory],
    unattached: Sequence[UnattachedRow],
) -> DeviceRow:
    held = ((row.key, row.on_bytes) for row in rows if holds_memory(row.process_state))
    return DeviceRow(
        key=device.key,
        number=number,
        title=device.title,
        used_bytes=device.used_bytes,
        total_bytes=device.total_bytes,
        utilization_percent=device.utilization_percent,
        temperature_celsius=device.temperature_celsius,
        power_watts=device.power_watts,
        models=tuple(sorted(rows, key=rank)),
        parts=() if device.is_divided else memory_parts(held, memories, device.used_bytes),
        unattached=tuple(unattached),
        label=device.label,
        state=device_state(device),
        is_lost=device.lost is not None,
        is_divided=device.is_divided,
        shares_host_memory=device.shares_host_memory,
    )


def warnings_of(feed: FeedState, hardware: HardwareState, catalogue: CatalogueState) -> tuple[str, ...]:
    """All that isn't as it should be, a line each, safe to draw."""
    lines = [_about(_shown_path(one.path), one.reason) for one in feed.unreadable]
    lines += hardware.problems
    for process in feed.processes:
        if process.liveness is Liveness.EXITED:
            continue
        said = process.snapshot.warnings if process.snapshot is not None else ()
        problems = () if process.problem is None else (f"its newest snapshot can't be read: {process.problem}",)
        lines += [f"{process_title(process)}: {text}" for text in (*problems, *said)]
    lines += catalogue.warnings
    return tuple(safe_text(line) for line in dict.fromkeys(lines))


def _progress(catalogue: CatalogueState) -> str:
    if not catalogue.pending:
        return ""
    return f"indexing {catalogue.seen - catalogue.pending:,} of {catalogue.seen:,}"


def _about(path: str, reason: str) -> str:
    return reason if reason.startswith(path) else f"{path}: {reason}"


def _shown_path(path: Path) -> str:
    return safe_text(str(path))


def devices_of(model: Model) -> list[str]:
    """Where it has bytes, and where it runs even if it is offloaded as a whole."""
    home = model.device or "cpu"
    holding = [device for device, size in model.bytes_by_device.items() if size > 0 and device != "meta"]
    if home == "meta":
        home = "cpu"
    return holding if home in holding or (model.id == SMALL_MODELS_ID and holding) else [home, *holding]


def _row(
    process: ProcessState,
    title: str,
    one: EnrichedModel,
    facts: Mapping[str, str],
    device: str,
    labels: Mapping[str, str],
    keys: Mapping[str, str],
) -> ModelRow:
    model = one.model
    home = model.device or "cpu"
    in_host = model.bytes_by_device.get("cpu", 0)
    if device == home:
        off_bytes = model.offloaded_bytes
    elif device == "cpu":
        off_bytes = max(0, model.offloaded_bytes - in_host)
    else:
        off_bytes = 0  # told once, where the model runs
    return ModelRow(
        key=f"{process.key}/{model.id}",
        name=one.shown_name,
        kind=safe_text(model.kind, 20),
        on_bytes=model.bytes_by_device.get(device, 0),
        off_bytes=off_bytes,
        layers=model.layers,
        dtype=_main_dtype(model),
        loaded_at_ns=model.loaded_at_ns,
        process=title,
        model=model,
        process_state=process,
        facts=facts,
        note=", ".join(_notes(process, model, device, home, labels)),
        metadata=one.metadata,
        parent_key=None if model.parent is None else f"{process.key}/{model.parent}",
        device_labels=labels,
        device_keys=keys,
        file_sizes=one.file_sizes,
        file_dtypes=one.file_dtypes,
    )


def _notes(process: ProcessState, model: Model, device: str, home: str, labels: Mapping[str, str]) -> list[str]:
    def words(name: str) -> str:
        return device_in_words(safe_text(labels.get(name, name), 40))

    notes = [word] if (word := state_in_words(process)) else []
    attached_at_ns = process.snapshot.process.attached_at_ns if process.snapshot is not None else None
    if attached_at_ns is not None and model.loaded_at_ns <= attached_at_ns:
        notes.append(LOADED_BEFORE)
    if model.asleep_bytes:
        notes.append("asleep")
    if device == "cpu" and home != "cpu":
        notes.append(f"offloaded from {words(home)}")
    others = sorted(other for other, size in model.bytes_by_device.items() if size > 0 and other not in ("cpu", "meta", device))
    if device != "cpu" and others:
        notes.append(f"also on {', '.join(map(words, others[:8]))}")
    return notes


def _main_dtype(model: Model) -> str:
    """As people call it, else the dtype of most bytes."""
    if not model.dtypes or not model.size_bytes:
        return ""
    if model.precision:
        return safe_text(model.precision, 40)
    most = max(model.dtypes, key=lambda dtype: (model.dtypes[dtype], dtype))
    return safe_text(most, 40) + ("+" if len(model.dtypes) > 1 else "")
