"""A file for bug reports: what the checks found, and what the viewer reads, scrubbed."""

from __future__ import annotations

import gzip
import io
import json
import os
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from gpumodels_shared.layout import MAJOR, MINOR
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import Model
from gpumodels_tui.doctor.findings import Result
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.doctor.packages import own_version, versions
from gpumodels_tui.doctor.report import document, report
from gpumodels_tui.doctor.scrubbing import Scrubber, scrubber_for
from gpumodels_tui.sources.feed import ProcessState

FOLDER: Final = "gpumodels-doctor"

TOLD: Final = frozenset(
    {
        "COLORTERM",
        "CUDA_DEVICE_ORDER",
        "CUDA_VISIBLE_DEVICES",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "NO_COLOR",
        "TERM",
        "VLLM_PLUGINS",
    }
)
"""The variables that are told, besides those that begin with GPUMODELS."""

README: Final = """\
What `gpumodels-tui doctor --bundle` found. Home folders, names of users and hosts, addresses, arguments of commands and secrets
of the environment were taken out, as far as they could be recognised; names of models were not. Please look through it before
you send it.

doctor.txt, doctor.json   what the checks found
processes.json            what the sidecars published: versions, devices, models
environment.json          versions of packages, and the variables that gpumodels reads
"""


def write_bundle(path: Path, results: Sequence[Result], machine: Machine) -> None:
    """Write the file, for its owner only.

    Raises:
        OSError: it exists already, or can't be written.
    """
    scrubber = scrubber_for(machine.feed, machine.environment)
    files = {
        "README.txt": README,
        "doctor.txt": scrubber.text(report(results)),
        "doctor.json": _json(document(results), scrubber),
        "processes.json": _json(_processes(machine), scrubber),
        "environment.json": _json(_environment(machine.environment), scrubber),
    }
    packed = _archive(files)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(packed)


def _archive(files: Mapping[str, str]) -> bytes:
    """A gzipped tar file that says nothing of who made it, and when."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, text in files.items():
            content = text.encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _json(value: object, scrubber: Scrubber) -> str:
    return json.dumps(scrubber.value(value), indent=1) + "\n"


def _environment(environment: Mapping[str, str]) -> dict[str, object]:
    told = {name: value for name, value in sorted(environment.items()) if name in TOLD or name.startswith("GPUMODELS")}
    return {
        "gpumodels": own_version(),
        "format": f"{MAJOR}.{MINOR}",
        "python": platform.python_version(),
        "system": f"{os.uname().sysname} {os.uname().release} {os.uname().machine}",
        "packages": versions(),
        "variables": told,
        "is_root": os.geteuid() == 0,
    }


def _processes(machine: Machine) -> list[object]:
    return [_process(process) for process in machine.feed.processes]


def _process(process: ProcessState) -> dict[str, object]:
    told: dict[str, object] = {
        "state": process.liveness.value,
        "is_local": process.is_local,
        "problem": process.problem,
        "is_owned_by_us": process.path.parent.stat().st_uid == os.geteuid() if process.path.parent.exists() else None,
    }
    if (snapshot := process.snapshot) is None:
        return told
    info = snapshot.process
    return told | {
        "label": safe_text(info.label, 200),
        "sidecar": info.sidecar_version,
        "python": info.python_version,
        "torch": info.torch_version,
        "interval_seconds": info.interval_seconds,
        "visible_devices": info.visible_devices,
        "device_order": info.device_order,
        "model_manager": snapshot.model_manager,
        "warnings": [safe_text(text) for text in snapshot.warnings],
        "health": {
            "scan_seconds": snapshot.health.scan_seconds,
            "modules": snapshot.health.modules,
            "failures": snapshot.health.failures,
        },
        "devices": [
            {
                "device": memory.device,
                "models_bytes": memory.models_bytes,
                "allocated_bytes": memory.allocated_bytes,
                "reserved_bytes": memory.reserved_bytes,
                "other_bytes": memory.other_bytes,
            }
            for memory in snapshot.devices
        ],
        "models": [_model(model) for model in snapshot.models],
    }


def _model(model: Model) -> dict[str, object]:
    """Without its metadata, which are whatever somebody wrote into a file, and without the folders of its files."""
    return {
        "name": safe_text(model.name),
        "kind": model.kind,
        "class": model.class_name,
        "name_source": model.name_source,
        "confidence": model.confidence,
        "bytes_by_device": dict(model.bytes_by_device),
        "offloaded_bytes": model.offloaded_bytes,
        "layers": model.layers,
        "dtypes": dict(model.dtypes),
        "files": [safe_text(Path(file).name) for file in model.files],
        "candidates": len(model.candidates),
        "compared": [model.matched_samples, model.compared_samples, model.matched_tensors, model.compared_tensors],
        "unread_tensors": model.unread_tensors,
        "dynamic_memory": model.dynamic_memory,
    }
