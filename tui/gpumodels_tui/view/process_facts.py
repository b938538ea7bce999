"""Facts about a process for its details, as labelled lines, the most important first. Safe to draw."""

from __future__ import annotations

from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import OutOfMemory, Snapshot
from gpumodels_shared.units import format_age, format_bytes
from gpumodels_shared.visible_devices import UNKNOWN_CHOICE
from gpumodels_tui.view.device_names import state_in_words
from gpumodels_tui.view.failed_allocations import in_one_line
from gpumodels_tui.view.hints import hints_of_process
from gpumodels_tui.view.job_facts import facts_of_job
from gpumodels_tui.view.jobs import RankedJob
from gpumodels_tui.view.model_facts import MOST_NAMED, Fact, is_unmanaged
from gpumodels_tui.view.outside_models import in_words
from gpumodels_tui.view.process_rows import NOT_ATTACHED, ProcessRow, UnattachedRow
from gpumodels_tui.view.stage_facts import facts_of_stages, listed_stages

MOST_WARNINGS: Final = 20
MOST_FROM_OUTSIDE: Final = 16
UNKNOWN_MODELS: Final = "unknown: no sidecar runs in this process (import gpumodels; gpumodels.start())"
WITH_SIDECAR: Final = "bytes and layers of each model: by a sidecar only (import gpumodels; gpumodels.start())"
LEAST_MISSING_BYTES: Final = 64 * 1024**2
"""Less may be the difference between two moments."""
WHY_NAMELESS: Final = "unknown: the driver's number for it names nobody here, as in a container, which has numbers of its own"


def facts_of_unattached(row: UnattachedRow) -> list[Fact]:
    """Facts about a process without a sidecar, from the driver and the kernel."""
    used = "not reported by the driver" if row.used_bytes is None else format_bytes(row.used_bytes)
    if row.pid is None:
        return [Fact("process", safe_text(row.command)), Fact("memory", used), Fact("pid", WHY_NAMELESS)]
    return [
        Fact("command", safe_text(row.command) or "unknown"),
        Fact("pid", str(row.pid)),
        Fact("user", safe_text(row.user, 80) or "unknown"),
        Fact("memory", used),
        *facts_from_outside(row),
        Fact("models" if not row.models else "more", UNKNOWN_MODELS if not row.models else WITH_SIDECAR),
    ]


def facts_from_outside(row: UnattachedRow) -> list[Fact]:
    """What is known of the process's models from outside, and why nothing more is."""
    facts: list[Fact] = []
    for one in row.models[:MOST_FROM_OUTSIDE]:
        facts.append(Fact("model" if not facts else "", in_words(one)))
        files = one.model.files
        facts += [Fact("file", safe_text(path, 400), is_path=True) for path in files[:1]]
        also = [safe_text(name, 80) for name in one.model.stated[1:]]
        facts += [Fact("also called", ", ".join(also))] if also else []
    hidden = len(row.models) - MOST_FROM_OUTSIDE
    facts += [Fact("", f"and {hidden} more")] if hidden > 0 else []
    facts += [Fact("files", f"not seen: {row.unread}")] if row.unread else []
    facts += [Fact("server", f"told nothing: {row.not_said}")] if row.not_said else []
    return facts


def facts_of_process(row: ProcessRow, now: float, job: RankedJob | None = None) -> list[Fact]:
    """Facts about a process and the state of its sidecar.

    Args:
        row: The process.
        now: Seconds since the epoch.
        job: All ranks of its job that are on this machine.
    """
    facts = [Fact("command", safe_text(row.command) or "unknown")]
    age = "" if row.started_at_ns is None else f", up {format_age(now - row.started_at_ns / 1e9)}"
    snapshot = row.state.snapshot if row.state is not None else None
    rank = "" if snapshot is None or snapshot.process.rank is None else f", rank {snapshot.process.rank}"
    if row.pid is None:
        return [Fact("process", safe_text(row.command)), Fact("pid", WHY_NAMELESS)]
    facts.append(Fact("process", f"pid {row.pid}, user {safe_text(row.user, 80) or 'unknown'}{age}{rank}"))
    if row.state is None:
        facts.append(Fact("sidecar", f"{NOT_ATTACHED}: start one with `import gpumodels; gpumodels.start()`"))
        facts += facts_from_outside(row.without_sidecar) if row.without_sidecar is not None else []
    elif snapshot is None:
        facts.append(Fact("sidecar", "has not published a snapshot yet"))
    else:
        info, health = snapshot.process, snapshot.health
        facts += facts_of_stages(snapshot.stages, now)
        facts += facts_of_job(info, job)
        facts += _unmanaged(snapshot)
        facts += [Fact("" if position else "hint", line) for position, line in enumerate(hints_of_process(row.state, now))]
        torch = f"torch {info.torch_version}" if info.torch_version else "torch not imported"
        versions = f"Python {info.python_version}, {torch}, gpumodels {info.sidecar_version}"
        facts.append(Fact("versions", safe_text(versions, 200)))
        # Signs of trouble come first, since a narrow screen cuts the end off.
        late = "" if row.state.late_seconds is None else f", {state_in_words(row.state)}"
        failed = f"failures: {health.failures:,}" if health.failures else "no failures"
        cost = f"{health.scan_seconds * 1e3:.1f} ms per scan, every {info.interval_seconds:g} s"
        facts.append(Fact("sidecar", f"{row.state.liveness.value}{late}, {failed}, {cost}, {health.modules:,} modules"))
        if info.visible_devices == UNKNOWN_CHOICE:
            facts.append(Fact("env", "CUDA_VISIBLE_DEVICES was changed, perhaps too late: which GPUs it means isn't certain"))
        elif info.visible_devices is not None:
            facts.append(Fact("env", safe_text(f"CUDA_VISIBLE_DEVICES={info.visible_devices}", 200)))
        facts += [
            Fact("env", safe_text(f"{name}={value}", 200)) for name, value in sorted(info.device_choice.items())[:MOST_NAMED]
        ]
        facts += [Fact("missing", line) for line in _missing(row)]
        facts += [Fact("asleep", line) for line in _asleep(snapshot)]
        facts += [Fact("paging", line) for line in _dynamic_memory(snapshot)]
        facts += [Fact("errors", line) for line in _times_out_of_memory(snapshot)]
        facts += _failed_allocations(snapshot, now)
        facts += [Fact("warning", safe_text(warning)) for warning in snapshot.warnings[:MOST_WARNINGS]]
        facts += listed_stages(snapshot.stages, now)
    return facts


def _missing(row: ProcessRow) -> list[str]:
    """Where the driver counts less than torch, and why that may be."""
    return [
        f"the driver counts {format_bytes(device.missing_bytes)} less on {safe_text(device.name or device.title, 40)} than torch "
        "has reserved: its allocator put that to sleep, or gave it back since the last scan"
        for device in row.devices
        if device.missing_bytes >= LEAST_MISSING_BYTES
    ]


def _asleep(snapshot: Snapshot) -> list[str]:
    """What sleeps of each device's memory."""
    return [
        f"{format_bytes(memory.asleep_bytes)} of {safe_text(memory.device, 40)}, in no sum: given back to the driver"
        for memory in snapshot.devices
        if memory.asleep_bytes
    ]


def _dynamic_memory(snapshot: Snapshot) -> list[str]:
    """Where the models are now of which ComfyUI moves single pages."""
    models = [model for model in snapshot.models if model.dynamic_memory]
    if not models:
        return []
    on = sum(model.on_device_bytes for model in models if model.device not in (None, "cpu"))
    in_host = sum(model.bytes_by_device.get("cpu", 0) for model in models)
    pinned = sum(model.pinned_bytes for model in models)
    size = sum(model.size_bytes for model in models)
    count = sum(model.parent is None for model in models)
    noun = "model" if count == 1 else "models"
    parts = [f"{format_bytes(on)} on their device" if count > 1 else f"{format_bytes(on)} on its device"]
    if in_host:
        parts.append(f"{format_bytes(in_host)} in host memory" + (f" ({format_bytes(pinned)} pinned)" if pinned else ""))
    if size > on + in_host:
        parts.append(f"{format_bytes(size - on - in_host)} on disk only")
    return [f"dynamic VRAM, {count} {noun}: {', '.join(parts)}"]


def _unmanaged(snapshot: Snapshot) -> list[Fact]:
    """Models that the process's own model manager doesn't know, if it has one."""
    models = [model for model in snapshot.models if is_unmanaged(model, snapshot)]
    if not models:
        return []
    names = ", ".join(safe_text(model.name, 80) for model in models[:MOST_NAMED])
    names += f" and {len(models) - MOST_NAMED} more" if len(models) > MOST_NAMED else ""
    size = format_bytes(sum(model.resident_bytes for model in models))
    return [Fact("unmanaged", f"{names}, {size}: 'unload models' does not free {'it' if len(models) == 1 else 'them'}")]


def _times_out_of_memory(snapshot: Snapshot) -> list[str]:
    """How often memory ran out on each device. The allocator counts it from the start, whether or not a viewer runs."""
    counted = [(memory.device, memory.out_of_memory_count) for memory in snapshot.devices if memory.out_of_memory_count]
    return [f"out of memory on {safe_text(device, 40)}, {count}× since the process started" for device, count in counted]


def _failed_allocations(snapshot: Snapshot, now: float) -> list[Fact]:
    """The failed allocations on record, the last first, and the file that keeps the last one."""
    last_first = snapshot.out_of_memory[::-1]
    facts = [Fact("" if position else "out of mem", _failed(one, now)) for position, one in enumerate(last_first)]
    kept = next((one.record for one in last_first if one.record), None)
    return [*facts, Fact("", f"gpumodels-tui oom {safe_text(kept)}")] if kept else facts


def _failed(failure: OutOfMemory, now: float) -> str:
    return f"{format_age(now - failure.at_ns / 1e9)} ago: {in_one_line(failure)}"
