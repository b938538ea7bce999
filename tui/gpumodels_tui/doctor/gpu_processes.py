"""Checks of the driver, and of the processes on its GPUs that have no sidecar."""

from __future__ import annotations

from collections.abc import Iterator

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.units import format_bytes
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.doctor.findings import Finding, failed, passed, warned
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.doctor.without_sidecar import why_without
from gpumodels_tui.outside.facts import OutsideFacts
from gpumodels_tui.view.outside_models import shown_models


def driver(machine: Machine) -> Iterator[Finding]:
    """Whether the driver answers, and what GPUs it has."""
    hardware = machine.hardware
    for problem in hardware.problems:
        yield failed(problem, "See whether nvidia-smi answers; models are shown all the same, as far as sidecars tell.")
    if library := _library(machine):
        yield passed(f"NVML is {library}")
    for gpu in hardware.gpus:
        if gpu.lost is None:
            total = "memory unknown" if gpu.total_bytes is None else format_bytes(gpu.total_bytes)
            slice_of = "" if gpu.parent is None else f", a slice of GPU {gpu.parent_index}"
            yield passed(f"GPU {gpu.index}: {gpu.name}, {total}{slice_of}")
    if hardware.gpus or hardware.problems:
        return
    if machine.has_nvidia_driver:
        yield failed(
            "the NVIDIA driver is loaded, but its library libnvidia-ml.so.1 isn't found or knows no GPU",
            "Install the driver's libraries of the same version; in a container, start it with `--gpus all`.",
        )
    else:
        yield passed("no driver that this version asks; models and bytes are what the sidecars tell")


def processes(machine: Machine) -> Iterator[Finding]:
    """Which processes on GPUs have no sidecar, and why, as far as that is certain."""
    hardware = machine.hardware
    if not hardware.gpus:
        yield passed("no GPU whose processes could be listed")
        return
    attached = {
        one.driver_pid for one in machine.feed.processes if one.liveness in (Liveness.LIVE, Liveness.STALLED) and one.driver_pid
    }
    seen = sorted({pid for gpu in hardware.gpus for pid in gpu.processes})
    for pid in seen:
        if pid not in attached and (why := why_without(pid, machine)) is not None:
            yield why
            process = hardware.running.get(pid)
            if process is not None and process.outside.models:
                yield passed(f"{pid}, as seen from outside: {_models(process.outside)}")
    nameless = {pid for gpu in hardware.gpus for pid in gpu.nameless}
    if nameless:
        yield warned(
            f"processes on GPUs whose numbers mean nothing in this PID namespace: {len(nameless)}",
            "Run this outside of the container.",
        )
    yield passed(f"processes on GPUs: {len(seen)}, of which with a sidecar: {len(attached & set(seen))}")


def _models(outside: OutsideFacts) -> str:
    return "; ".join(f"{one.name} ({one.how})" for one in shown_models(outside, CatalogueState()))


def _library(machine: Machine) -> str | None:
    """The library that answers, which may be a stand-in for NVIDIA's own; None if none was loaded."""
    try:
        lines = (machine.proc / "self" / "maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    return next((line.split(maxsplit=5)[-1] for line in lines if "/libnvidia-ml.so" in line), None)
