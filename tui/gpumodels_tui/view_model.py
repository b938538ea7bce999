"""What the screens draw: one immutable view of feed, hardware and catalogue, made anew when one of them changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpumodels_shared.schema import Model
from gpumodels_tui.feed import ProcessState


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model on one device."""

    key: str
    """Process key and model id: the cursor holds on to it."""
    name: str
    """Safe to draw; indented nowhere, a `?` appended where it is a guess."""
    kind: str
    on_bytes: int
    """On the device of this list."""
    off_bytes: int
    """Of a GPU's model: what is in host memory, on disk or not loaded. Of a model in host memory: what is not in memory at all."""
    layers: int
    dtype: str
    """The dtype of most bytes, `+` appended where there are others; empty where nothing is in memory."""
    loaded_at_ns: int
    process: str
    """Label and pid, `ComfyUI/main.py 4711`."""
    model: Model
    process_state: ProcessState
    facts: Mapping[str, str]
    """In people's terms and their order: title, architecture, base model, …; from the files."""
    note: str = ""
    """`offloaded from cuda:0`, `stalled`, `dead`: a state that the columns don't show."""


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One GPU, or host memory, with its models."""

    key: str
    """`gpu:<uuid>` or `host`."""
    number: int
    """The key that chooses it, 1–9."""
    title: str
    """`GPU 0  NVIDIA H100 80GB HBM3`, `Host memory`; says `simulated` where it is."""
    used_bytes: int | None
    total_bytes: int | None
    utilization_percent: int | None
    temperature_celsius: int | None
    power_watts: float | None
    models: tuple[ModelRow, ...]
    """Largest first."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything on the screens."""

    devices: tuple[DeviceRow, ...]
    """GPUs in order, host memory last."""
    processes: tuple[ProcessState, ...]
    warnings: tuple[str, ...]
    """Safe to draw: unreadable files, refused directories, the sidecars' and the catalogue's warnings."""
    directories: tuple[str, ...]
    """Where was looked."""
