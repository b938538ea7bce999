"""The document that `--json` prints: stable, every key always there, sizes in bytes, times ISO 8601 UTC, unknown is null."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import DeviceMemory, OutOfMemory, ProcessInfo, Stage
from gpumodels_shared.units import describe_model
from gpumodels_tui.oneshot import Snapshots
from gpumodels_tui.outside.arguments import program_of
from gpumodels_tui.outside.facts import NOTHING
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.builder import devices_of, warnings_of
from gpumodels_tui.view.copies import Copies, Resident, copies_of
from gpumodels_tui.view.device_names import HOST, Device, Devices, devices_named, join_devices
from gpumodels_tui.view.enrichment import EnrichedModel, enriched
from gpumodels_tui.view.filters import NO_FILTERS, Filters, is_of_process, traits_of, traits_without_sidecar
from gpumodels_tui.view.hints import ModelFacts, hints_of_model, hints_of_process
from gpumodels_tui.view.iso_times import time_text
from gpumodels_tui.view.jobs import Rank, RankedJob, imbalance, ranked_jobs
from gpumodels_tui.view.outside_models import ShownModel, model_name
from gpumodels_tui.view.outside_torch import outside_torch, used_by
from gpumodels_tui.view.process_rows import UnattachedRow, unattached_rows

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

SCHEMA: Final = 1


def document(glance: Snapshots, filters: Filters = NO_FILTERS) -> dict[str, Json]:
    """All of it, or what the filters leave.

    Names, paths and metadata are as they were found; `display`, `warnings` and `hints` are safe to print.
    """
    present = tuple(process for process in glance.feed.processes if process.liveness is not Liveness.EXITED)
    joined = join_devices(replace(glance.feed, processes=present), glance.hardware)
    chosen = filters.devices((device.key, device.label, device.title) for device in joined.devices)
    processes = dict(_processes(glance, joined, filters, chosen))
    hidden = [process.key for process in present if process.key not in processes]
    gpus = (
        device
        for device in joined.devices
        if device.key != HOST and device.is_distinct and not any(is_of_process(device.key, key) for key in hidden)
    )
    return {
        "schema": SCHEMA,
        "taken_at": time_text(glance.taken_at_ns),
        "host": os.uname().nodename,
        "gpus": [_gpu(device) for device in gpus if chosen is None or device.key in chosen],
        "processes": list(processes.values()),
        "unattached": list(_unattached(glance, joined, filters, chosen)),
        "warnings": list(warnings_of(glance.feed, glance.hardware, glance.catalogue)),
    }


def text(glance: Snapshots, filters: Filters = NO_FILTERS, *, is_pretty: bool = False) -> str:
    """The document in ASCII, so that nothing in it can steer a terminal: in one line, or for people."""
    document_text = json.dumps(document(glance, filters), ensure_ascii=True, allow_nan=False, indent=2 if is_pretty else None)
    return document_text.replace("\x7f", "\\u007f") + "\n"


def _processes(glance: Snapshots, joined: Devices, filters: Filters, chosen: frozenset[str] | None) -> Iterator[tuple[str, Json]]:
    """Those that the filters leave by key, each with its models and devices that they leave."""
    jobs = {rank.process.key: job for job in ranked_jobs(glance.feed.processes) for rank in job.ranks}
    enriched_models = {
        process.key: [enriched(model, glance.catalogue) for model in (process.snapshot.models if process.snapshot else ())]
        for process in glance.feed.processes
    }
    # Of processes that aren't chosen nothing is told, the number of their copies neither.
    chosen_processes = [process for process in glance.feed.processes if filters.has_process(traits_of(process))]
    copies = _copies(chosen_processes, enriched_models, joined)
    for process in glance.feed.processes:
        if not filters.has_process(traits_of(process)):
            continue
        kept = {
            memory.device
            for memory in devices_named(process)
            if chosen is None or joined.keys.get((process.key, memory.device)) in chosen
        }
        models = [
            one
            for one in enriched_models[process.key]
            if filters.has_model(
                one.shown_name,
                one.model.kind,
                one.model.size_bytes,
                is_twice=any(found.count > 1 for found in copies.get((process.key, one.model.id), {}).values()),
            )
            and (chosen is None or any(device in kept for device in devices_of(one.model)))
        ]
        if models or not (filters.of_models or (chosen is not None and not kept)):
            used = {device: used_by(process, device, joined, glance.hardware.gpus) for device in kept}
            yield process.key, _process(process, models, used, jobs.get(process.key), copies, glance.taken_at_ns)


def _unattached(glance: Snapshots, joined: Devices, filters: Filters, chosen: frozenset[str] | None) -> Iterator[Json]:
    """The processes on the GPUs that have no sidecar, by pid, as far as the filters leave them."""
    if filters.of_models:
        return
    rows = unattached_rows(glance.feed.processes, glance.hardware, joined, glance.catalogue)
    uuids = {device.key: device.uuid for device in joined.devices}
    found: dict[int, list[tuple[str, UnattachedRow]]] = {}
    for key, listed in rows.items():
        for row in listed:
            if row.pid is not None and (chosen is None or key in chosen) and filters.has_process(traits_without_sidecar(row)):
                found.setdefault(row.pid, []).append((key, row))
    for pid, there in sorted(found.items()):
        process = glance.hardware.running.get(pid)
        outside = NOTHING if process is None else process.outside
        shown = there[0][1].models
        yield {
            "pid": pid,
            "label": program_of(process.command) if process is not None else None,
            "user": process.user if process is not None else None,
            "started_at": time_text(process.started_at_ns) if process is not None else None,
            "devices": [{"uuid": uuids.get(key), "used_bytes": row.used_bytes} for key, row in there],
            "models": [_outside_model(one, glance) for one in shown],
            "unread": outside.unread or None,
            "not_said": outside.not_said or None,
        }


def _outside_model(one: ShownModel, glance: Snapshots) -> dict[str, Json]:
    model = one.model
    return {
        "name": model_name(model, glance.catalogue),
        "display": f"{one.name} ({one.how})",
        "known_by": model.known_by.value,
        "said_by": model.said_by or None,
        "stated": list(model.stated),
        "files": list(model.files),
        "file_bytes": model.file_bytes,
        "mapped_bytes": model.mapped_bytes,
        "deleted": model.is_deleted,
    }


CopiesOfAll: TypeAlias = "Mapping[tuple[str, str], Mapping[str, Copies]]"
"""By process key and model id: the copies on each device, by the process's name for it."""


def _copies(processes: Sequence[ProcessState], models: Mapping[str, Sequence[EnrichedModel]], joined: Devices) -> CopiesOfAll:
    there = [
        (process, one.model, name, key, size)
        for process in processes
        for one in models[process.key]
        for name, size in one.model.bytes_by_device.items()
        if (key := joined.keys.get((process.key, name))) is not None
    ]
    counted = copies_of(Resident(key, model.id, size, model, process) for process, model, _, key, size in there)
    found: dict[tuple[str, str], dict[str, Copies]] = {}
    for process, model, name, key, _ in there:
        if (copies := counted.get((key, process.key, model.id))) is not None:
            found.setdefault((process.key, model.id), {})[name] = copies
    return found


def _gpu(device: Device) -> dict[str, Json]:
    return {
        "index": device.index,
        "uuid": device.uuid,
        "name": device.name,
        "total_bytes": device.total_bytes,
        "used_bytes": device.used_bytes,
        "utilization_percent": device.utilization_percent,
        "temperature_celsius": device.temperature_celsius,
        "power_watts": device.power_watts,
        "parent": device.parent,
        "lost": device.lost is not None,
        "shares_host_memory": device.shares_host_memory,
    }


def _process(
    process: ProcessState,
    models: Sequence[EnrichedModel],
    used: Mapping[str, int | None],
    ranked: RankedJob | None,
    copies: CopiesOfAll,
    taken_at_ns: int,
) -> dict[str, Json]:
    snapshot = process.snapshot
    return {
        "pid": process.pid,
        "label": snapshot.process.label if snapshot else None,
        "user": process.user,
        "state": process.liveness.value,
        "started_at": time_text(snapshot.process.started_at_ns) if snapshot else None,
        "snapshot_at": time_text(process.snapshot_at_ns),
        "job": _job(snapshot.process, ranked) if snapshot else None,
        "container": snapshot.process.job.container_id if snapshot and snapshot.process.job else None,
        "devices": [_device(memory, used[memory.device]) for memory in devices_named(process) if memory.device in used],
        "models": [_model(one, process, copies.get((process.key, one.model.id), {})) for one in models],
        "model_manager": snapshot.model_manager if snapshot else None,
        "stage": _current(snapshot.stages if snapshot else ()),
        "stages": [stage_document(stage) for stage in (snapshot.stages if snapshot else ())],
        "out_of_memory": [_failed_allocation(one) for one in (snapshot.out_of_memory if snapshot else ())],
        "hints": list(hints_of_process(process, taken_at_ns / 1e9)),
    }


def _job(info: ProcessInfo, ranked: RankedJob | None) -> dict[str, Json] | None:
    job = info.job
    if job is None:
        return None
    return {
        "launcher": job.launcher,
        "id": job.id,
        "rank": info.rank,
        "local_rank": job.local_rank,
        "world_size": job.world_size,
        "slurm_job": job.slurm_job,
        "slurm_step": job.slurm_step,
        "user": job.user,
        "namespace": job.namespace,
        "pod": job.pod,
        "ranks": [_rank(one) for one in (ranked.ranks if ranked is not None else ())],
        "imbalance": imbalance(ranked.sizes) if ranked is not None else None,
    }


def _rank(one: Rank) -> dict[str, Json]:
    return {"rank": one.rank, "pid": one.process.pid, "allocated_bytes": one.allocated_bytes}


def _device(memory: DeviceMemory, used_bytes: int | None) -> dict[str, Json]:
    return {
        "device": memory.device,
        "uuid": memory.uuid,
        "allocated_bytes": memory.allocated_bytes,
        "reserved_bytes": memory.reserved_bytes,
        "models_bytes": memory.models_bytes,
        "gradients_bytes": memory.gradients_bytes,
        "optimizer_bytes": memory.optimizer_bytes,
        "cache_bytes": memory.cache_bytes,
        "other_bytes": memory.other_bytes,
        "held_by_functions": dict(memory.held_by_functions),
        "outside_torch_bytes": outside_torch(memory, used_bytes),
        "asleep_bytes": memory.asleep_bytes,
    }


def _model(one: EnrichedModel, process: ProcessState, copies: Mapping[str, Copies]) -> dict[str, Json]:
    model = one.model
    display = describe_model(one.shown_name, safe_text(model.kind, 20), model.size_bytes, model.layers, model.unread_tensors)
    return {
        "id": model.id,
        "name": model.name,
        "kind": model.kind,
        "class": model.class_name,
        "display": display,
        "bytes_by_device": dict(model.bytes_by_device),
        "offloaded_bytes": model.offloaded_bytes,
        "layers": model.layers,
        "parameters": model.parameters,
        "dtypes": dict(model.dtypes),
        "precision": model.precision,
        "loaded_at": time_text(model.loaded_at_ns),
        "files": list(model.files),
        "name_source": model.name_source,
        "confidence": model.confidence,
        "candidates": list(model.candidates),
        "metadata": dict(one.metadata),
        "parent": model.parent,
        "adapters": list(model.adapters),
        "slot": model.slot,
        "leftover_of": model.leftover_of,
        "pinned_bytes": model.pinned_bytes,
        "asleep_bytes": model.asleep_bytes,
        "asleep_in": model.asleep_in,
        "imported_bytes": model.imported_bytes,
        "dynamic_memory": model.dynamic_memory,
        "managed_by": model.managed_by,
        "managed_bytes": model.managed_bytes,
        "last_used_at": time_text(model.last_used_ns) if process.liveness is Liveness.LIVE else None,
        "last_used_by": model.last_used_by if process.liveness is Liveness.LIVE else None,
        "copies_by_device": {device: found.count for device, found in copies.items()} if copies else None,
        "same_file_as": [
            other
            for other in sorted({key for found in copies.values() for holder, key in found.models if holder == process.key})
            if other != model.id
        ],
        "hints": list(hints_of_model(ModelFacts(model, process, one.file_dtypes, tuple(copies.values())))),
    }


def _failed_allocation(failure: OutOfMemory) -> dict[str, Json]:
    return {
        "at": time_text(failure.at_ns),
        "device": failure.device,
        "noticed_by": failure.noticed_by,
        "message": failure.message,
        "requested_bytes": failure.requested_bytes,
        "allocated_bytes": failure.allocated_bytes,
        "reserved_bytes": failure.reserved_bytes,
        "free_bytes": failure.free_bytes,
        "total_bytes": failure.total_bytes,
        "looked_at": time_text(failure.looked_at_ns),
        "parts": dict(failure.parts),
        "models": [{"name": name, "bytes": size} for name, size in failure.models],
        "stage": failure.stage,
        "recent": [
            {"at": time_text(at_ns), "what": what, "name": name, "bytes": size} for at_ns, what, name, size in failure.recent
        ],
        "record": failure.record,
    }


def _current(stages: Sequence[Stage]) -> dict[str, Json] | None:
    """The one that began last, of those that run."""
    running = [stage for stage in stages if stage.ended_at_ns is None]
    return {"id": running[-1].id, "name": running[-1].name, "since": time_text(running[-1].started_at_ns)} if running else None


def stage_document(stage: Stage) -> dict[str, Json]:
    return {
        "id": stage.id,
        "name": stage.name,
        "started_at": time_text(stage.started_at_ns),
        "ended_at": time_text(stage.ended_at_ns),
        "device": stage.device,
        "bytes_before": stage.bytes_before,
        "bytes_after": stage.bytes_after,
        "peak_bytes": stage.peak_bytes,
        "files": list(stage.files),
    }
