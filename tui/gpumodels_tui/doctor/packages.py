"""Checks of what the viewer itself runs on."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from typing import Final

from gpumodels_tui.doctor.findings import Finding, failed, passed, warned
from gpumodels_tui.doctor.machine import Machine

REQUIRED: Final = (
    "msgpack",
    "msgspec",
    "platformdirs",
    "psutil",
    "pyyaml",
    "rich",
    "safetensors",
    "numpy",
    "textual",
    "watchdog",
)
OPTIONAL: Final = ("gguf", "isal", "prometheus-client")
"""Each is missed only for what it does alone: the newest tensor types of GGUF, a faster checksum, `metrics`."""
INSTALL: Final = "Run: pip install 'gpumodels[tui]'"


def python(machine: Machine) -> Iterator[Finding]:
    """What this command runs on."""
    yield passed(f"gpumodels-tui {own_version()}, Python {platform.python_version()}, {platform.system()} {platform.release()}")


def packages(machine: Machine) -> Iterator[Finding]:
    """Whether the packages of the extra `tui` are installed."""
    found = versions()
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        yield failed(f"not installed: {', '.join(missing)}", INSTALL)
    shown = ", ".join(f"{name} {found[name]}" for name in (*REQUIRED, *OPTIONAL) if name in found)
    yield passed(shown or "nothing is installed") if not missing else warned(f"installed: {shown}", INSTALL)


def versions() -> dict[str, str]:
    """Of all packages that are installed of those that the viewer may use."""
    found: dict[str, str] = {}
    for name in (*REQUIRED, *OPTIONAL):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def own_version() -> str:
    """This package's."""
    try:
        return importlib.metadata.version("gpumodels")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
