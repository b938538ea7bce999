"""What the screens draw, as immutable rows: the view, its devices, and the models on each."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import SMALL_MODELS_ID, Model
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.events import History
from gpumodels_tui.view.memory_parts import MemoryPart
from gpumodels_tui.view.process_rows import ProcessRow, UnattachedRow


class ModelRow(Struct, frozen=True):
    """One model on one device."""

    key: str
    """Process key and model id: the cursor holds on to it."""
    name: str
    """Safe to draw; indented nowhere, a `?` appended where it is a guess."""
    kind: str
    on_bytes: int
    """On the device of this list."""
    off_bytes: int
    """Of a GPU's model: what is in host memory, on disk or not loaded. Of one in host memory: what is not in memory at all."""
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
    """`offloaded from GPU 0`, `stalled`, `dead`: a state that the columns don't show."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Raw keys, the snapshot's and the files' together. Not made safe: draw through safe_text."""
    parent_key: str | None = None
    """Of an adapter: its base model's."""
    places: Mapping[str, str] = field(default_factory=dict)
    """What the lists call a device (`DeviceRow.label`), by what its process calls it."""
    file_sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of its files and candidates, by path, as far as they were read."""


class DeviceRow(Struct, frozen=True):
    """One GPU, or host memory, with its models."""

    key: str
    """`gpu:<uuid>` or `host`; `<process key>:cuda:0` where nothing says which GPU that is."""
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
    parts: tuple[MemoryPart, ...] = ()
    """Where the used bytes went."""
    unattached: tuple[UnattachedRow, ...] = ()
    """Processes without a sidecar."""
    label: str = ""
    """Short: `0` of GPU 0, `cuda:1`, `host`."""


class View(Struct, frozen=True):
    """Everything on the screens."""

    devices: tuple[DeviceRow, ...]
    """GPUs in order, host memory last."""
    processes: tuple[ProcessState, ...]
    warnings: tuple[str, ...]
    """Safe to draw: unreadable files, refused directories, the sidecars' and the catalogue's warnings."""
    directories: tuple[str, ...]
    """Where was looked."""
    process_rows: tuple[ProcessRow, ...] = ()
    """Those with a sidecar, then those on a GPU without one."""
    history: History = field(default_factory=History)
    """What happened before, as far as someone watched."""
    progress: str = ""
    """`indexing 1,234 of 10,000` while model files are read; else empty."""


def rank(row: ModelRow) -> tuple[bool, bool, int, int, str, str]:
    """What is in memory above what was when its process died; one line of small ones last."""
    is_dead = row.process_state.liveness is Liveness.DEAD
    return (is_dead, row.model.id == SMALL_MODELS_ID, -row.on_bytes, -row.off_bytes, row.name, row.key)
