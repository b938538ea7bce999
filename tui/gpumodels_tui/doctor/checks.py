"""All checks, by their ids, in the order in which they are printed. docs/doctor.md describes each."""

from __future__ import annotations

from typing import Final

from gpumodels_tui.doctor import directories, gpu_processes, hosts, identities, model_folders, packages, sidecars, terminals
from gpumodels_tui.doctor.findings import Check

CHECKS: Final = (
    Check("viewer.python", packages.python),
    Check("viewer.packages", packages.packages),
    Check("directory.path", directories.path),
    Check("directory.owner", directories.owner),
    Check("directory.mode", directories.mode),
    Check("directory.room", directories.room),
    Check("directory.files", directories.files),
    Check("identity.user", identities.user),
    Check("identity.namespace", identities.namespace),
    Check("sidecar.running", sidecars.running),
    Check("sidecar.version", sidecars.version),
    Check("sidecar.format", sidecars.file_format),
    Check("sidecar.health", sidecars.health),
    Check("sidecar.alive", sidecars.alive),
    Check("sidecar.torch", sidecars.torch),
    Check("gpu.driver", gpu_processes.driver),
    Check("gpu.processes", gpu_processes.processes),
    Check("catalogue.folders", model_folders.folders),
    Check("catalogue.cache", model_folders.cache),
    Check("catalogue.inotify", model_folders.inotify),
    Check("terminal.kind", terminals.kind),
    Check("terminal.colours", terminals.colours),
    Check("terminal.utf8", terminals.utf8),
    Check("terminal.size", terminals.size),
    Check("host.vllm_plugins", hosts.vllm_plugins),
    Check("host.memory", hosts.memory),
)
