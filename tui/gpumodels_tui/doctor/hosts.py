"""Checks of what the processes themselves do that changes what is shown of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from gpumodels_shared.liveness import Liveness
from gpumodels_tui.doctor.findings import Finding, passed, warned
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.doctor.sidecars import called

VARIABLE: Final = "VLLM_PLUGINS"
PLUGIN: Final = "gpumodels"
"""The name of the entry point in `plugins/gpumodels-vllm`."""
SLEEP_FLAG: Final = "--enable-sleep-mode"


def vllm_plugins(machine: Machine) -> Iterator[Finding]:
    """Whether VLLM_PLUGINS, which names the only plugins that vLLM loads, leaves the sidecar's out."""
    leaving_out = False
    for where, value in _settings(machine):
        if PLUGIN not in value.split(","):  # as vLLM reads it: spaces count
            leaving_out = True
            yield warned(
                f"{where} has {VARIABLE}={value}, so that vLLM loads no other plugin, the sidecar's included",
                f"Add {PLUGIN} to {VARIABLE}, or remove the variable, and restart vLLM.",
            )
    if not leaving_out:
        yield passed(f"{VARIABLE} keeps no sidecar off")


def memory(machine: Machine) -> Iterator[Finding]:
    """Whether models move on and off their GPUs without being loaded, which is no fault."""
    is_usual = True
    for process in machine.feed.processes:
        if process.snapshot is None or process.liveness not in (Liveness.LIVE, Liveness.STALLED):
            continue
        moving = sum(model.dynamic_memory for model in process.snapshot.models)
        if moving:
            is_usual = False
            yield passed(
                f"{called(process)} uses dynamic VRAM for {moving} {'model' if moving == 1 else 'models'}: "
                "single pages move on and off the GPU, so that bytes on it change all the time"
            )
        if SLEEP_FLAG in process.snapshot.process.command:
            is_usual = False
            yield passed(
                f"{called(process)} was started with {SLEEP_FLAG}: while it sleeps, the driver counts less than torch does"
            )
    if is_usual:
        yield passed("no process uses dynamic VRAM or was started with a sleep mode")


def _settings(machine: Machine) -> Iterator[tuple[str, str]]:
    """Where the variable is set: here, and in the processes that may be asked for what they were started with."""
    if (value := machine.environment.get(VARIABLE)) is not None:
        yield "this environment", value
    beginning = os.fsencode(VARIABLE) + b"="
    for place in machine.proc.iterdir():
        if not place.name.isdecimal() or int(place.name) == os.getpid():
            continue
        try:
            entries = (place / "environ").read_bytes().split(b"\0")
            is_vllm = b"vllm" in (place / "cmdline").read_bytes().lower()
        except OSError:
            continue
        stated = [entry for entry in entries if entry.startswith(beginning)]
        if stated and is_vllm:
            yield f"the process {place.name}", os.fsdecode(stated[0][len(beginning) :])
