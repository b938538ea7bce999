"""A failed allocation in words: for the process screen, and as text for an issue report. Safe to draw."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import OutOfMemory, ProcessInfo
from gpumodels_shared.units import format_age, format_bytes

MOST_MODELS: Final = 20
MOST_CHANGES: Final = 20
NANOSECONDS: Final = 1_000_000_000
NOTICED: Final[Mapping[str, str]] = {
    "exception": "the program's own error",
    "counter": "the allocator's counter; no error told more",
    "cgroup": "the kernel, for the memory limit of the cgroup",
}
OLD_LOOK_SECONDS: Final = 3.0
"""If what was in memory was looked at longer ago than this before the failure, it is said how long."""


def in_one_line(failure: OutOfMemory) -> str:
    """`2.0 GB on cuda:0 in KSampler; in use: 22.0 GB of 24.0 GB`; what isn't known is left out."""
    parts = [f"{format_bytes(failure.requested_bytes)}" if failure.requested_bytes is not None else "an unknown size"]
    parts.append(f"on {_device(failure)}")
    if failure.stage:
        parts.append(f"in {safe_text(failure.stage, 80)}")
    used = failure.reserved_bytes if failure.reserved_bytes is not None else failure.allocated_bytes
    text = " ".join(parts)
    if used is not None:
        text += f"; in use: {format_bytes(used)}"
        text += f" of {format_bytes(failure.total_bytes)}" if failure.total_bytes is not None else ""
    if failure.models:
        text += f"; largest: {safe_text(failure.models[0][0], 80)} {format_bytes(failure.models[0][1])}"
    return text


def report(process: ProcessInfo, failure: OutOfMemory) -> str:
    """All that is known of it, as plain lines that an issue report takes as they are."""
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(failure.at_ns // NANOSECONDS))
    torch = f"torch {process.torch_version}" if process.torch_version else "torch not imported"
    lines = [
        f"Out of memory on {_device(failure)}, {at}",
        "",
        f"process    {safe_text(process.label, 120)}, pid {process.pid}",
        f"versions   {safe_text(f'Python {process.python_version}, {torch}, gpumodels {process.sidecar_version}', 200)}",
        f"noticed    by {NOTICED.get(failure.noticed_by, safe_text(failure.noticed_by, 40))}",
    ]
    if failure.message:
        lines.append(f"error      {safe_text(failure.message, 400)}")
    if failure.stage:
        lines.append(f"stage      {safe_text(failure.stage, 120)}")
    sizes = (
        ("requested", failure.requested_bytes),
        ("allocated", failure.allocated_bytes),
        ("reserved", failure.reserved_bytes),
        ("free", failure.free_bytes),
        ("total", failure.total_bytes),
    )
    lines += [f"{name:<11}{format_bytes(size) if size is not None else 'unknown'}" for name, size in sizes]
    lines += _listed(f"In memory{_age_of_look(failure)}:", [(safe_text(name, 40), size) for name, size in failure.parts.items()])
    models = [(safe_text(name, 120), size) for name, size in failure.models[:MOST_MODELS]]
    lines += _listed("Models there:", models, len(failure.models) - len(models))
    changes = failure.recent[-MOST_CHANGES:]
    if changes:
        lines += ["", "In the minute before:"]
        lines += [
            f"  {(failure.at_ns - at_ns) / NANOSECONDS:5.1f} s before  {safe_text(what, 20):<9} {format_bytes(size):>9}  "
            f"{safe_text(name, 120)}"
            for at_ns, what, name, size in changes
        ]
    return "\n".join(lines) + "\n"


def _listed(title: str, entries: list[tuple[str, int]], left_out: int = 0) -> list[str]:
    if not entries:
        return []
    more = [f"  and {left_out} more"] if left_out > 0 else []
    return ["", title, *(f"  {format_bytes(size):>9}  {name}" for name, size in entries), *more]


def _age_of_look(failure: OutOfMemory) -> str:
    """How much older than the failure the look is at what was in memory; empty if that is little, or unknown."""
    if failure.looked_at_ns is None or failure.at_ns - failure.looked_at_ns < OLD_LOOK_SECONDS * NANOSECONDS:
        return ""
    return f" {format_age((failure.at_ns - failure.looked_at_ns) / NANOSECONDS)} before"


def _device(failure: OutOfMemory) -> str:
    if failure.device is None:
        return "an unknown device"
    return "host memory" if failure.device == "cpu" else safe_text(failure.device, 40)
