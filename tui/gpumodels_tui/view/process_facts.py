"""What is known of one process beside its row: labelled lines, most telling first. Safe to draw."""

from __future__ import annotations

from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Snapshot
from gpumodels_shared.units import format_age, format_bytes
from gpumodels_tui.view.model_facts import Fact
from gpumodels_tui.view.process_rows import NOT_ATTACHED, ProcessRow, UnattachedRow

MOST_WARNINGS: Final = 20


def facts_of_unattached(row: UnattachedRow) -> list[Fact]:
    """Of a process without a sidecar, as the driver and the kernel know it."""
    used = "not said by the driver" if row.used_bytes is None else format_bytes(row.used_bytes)
    return [
        Fact("command", safe_text(row.command) or "not known"),
        Fact("pid", str(row.pid)),
        Fact("user", safe_text(row.user, 80) or "not known"),
        Fact("memory", used),
        Fact("models", "not known: no sidecar runs in it (import gpumodels; gpumodels.start())"),
    ]


def facts_of_process(row: ProcessRow, now: float) -> list[Fact]:
    """What it is, and how its sidecar does.

    Args:
        row: The process.
        now: Seconds since the epoch.
    """
    facts = [Fact("command", safe_text(row.command) or "not known")]
    age = "" if row.started_at_ns is None else f", up {format_age(now - row.started_at_ns / 1e9)}"
    snapshot = row.state.snapshot if row.state is not None else None
    rank = "" if snapshot is None or snapshot.process.rank is None else f", rank {snapshot.process.rank}"
    facts.append(Fact("process", f"pid {row.pid}, user {safe_text(row.user, 80) or 'not known'}{age}{rank}"))
    if row.state is None:
        facts.append(Fact("sidecar", f"{NOT_ATTACHED}: start one by `import gpumodels; gpumodels.start()`"))
    elif snapshot is None:
        facts.append(Fact("sidecar", "has published nothing yet"))
    else:
        info, health = snapshot.process, snapshot.health
        torch = f"torch {info.torch_version}" if info.torch_version else "torch not imported"
        versions = f"Python {info.python_version}, {torch}, gpumodels {info.sidecar_version}"
        facts.append(Fact("versions", safe_text(versions, 200)))
        # What tells of trouble first: the end has no room on a narrow screen.
        failed = f"{health.failures:,} things could not be read" if health.failures else "no failures"
        cost = f"{health.scan_seconds * 1e3:.1f} ms a look, every {info.interval_seconds:g} s"
        facts.append(Fact("sidecar", f"{row.state.liveness.value}, {failed}, {cost}, {health.modules:,} modules"))
        if info.visible_devices is not None:
            facts.append(Fact("sees", safe_text(f"CUDA_VISIBLE_DEVICES={info.visible_devices}", 200)))
        facts += [Fact("ran out", line) for line in _times_out_of_memory(snapshot)]
        facts += [Fact("warning", safe_text(warning)) for warning in snapshot.warnings[:MOST_WARNINGS]]
    return facts


def _times_out_of_memory(snapshot: Snapshot) -> list[str]:
    """Also of before anybody looked: the allocator counts by itself."""
    counted = [(memory.device, memory.out_of_memory_count) for memory in snapshot.devices if memory.out_of_memory_count]
    return [f"out of memory on {safe_text(device, 40)}, {count}× since it started" for device, count in counted]
