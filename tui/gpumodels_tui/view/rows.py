"""The immutable rows that the screens draw: the view, its devices, and the models on each."""

from __future__ import annotations

from collections.abc import Mapping

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import Record, field
from gpumodels_shared.schema import SMALL_MODELS_ID, Model
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.copies import Copies
from gpumodels_tui.view.events import History
from gpumodels_tui.view.memory_parts import MemoryPart
from gpumodels_tui.view.process_rows import ProcessRow, UnattachedRow


class ModelRow(Record):
    """One model on one device."""

    key: str
    """Process key and model id; the cursor follows it."""
    name: str
    """Safe to draw; without indentation; ends in `?` if it is a guess."""
    kind: str
    on_bytes: int
    """Bytes on the device of this list."""
    off_bytes: int
    """For a model on a GPU: bytes in host memory, on disk or not loaded. In host memory: bytes that are in no memory."""
    layers: int
    dtype: str
    """How its weights are stored, as people call it (`int4 GPTQ`), else the dtype of most bytes, with `+` appended if there are
    others; empty if nothing is in memory."""
    loaded_at_ns: int
    process: str
    """Label and pid, `ComfyUI/main.py 4711`."""
    model: Model
    process_state: ProcessState
    facts: Mapping[str, str]
    """Facts from the files by readable label, in display order: title, architecture, base model, …"""
    note: str = ""
    """A state that the columns don't show: `offloaded from GPU 0`, `stalled`, `dead`."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Raw metadata of the snapshot and the files together. Not safe to draw without safe_text."""
    parent_key: str | None = None
    """For an adapter: the key of its base model."""
    device_labels: Mapping[str, str] = field(default_factory=dict)
    """The devices' labels (`DeviceRow.label`) by the names that the process uses."""
    device_keys: Mapping[str, str] = field(default_factory=dict)
    """The devices' keys (`DeviceRow.key`) by the names that the process uses."""
    file_sizes: Mapping[str, int] = field(default_factory=dict)
    """The sizes in bytes of its files and candidates, by path, as far as they have been read."""
    file_dtypes: Mapping[str, int] = field(default_factory=dict)
    """Bytes in its files by dtype; empty if they aren't all known."""
    copies: Copies | None = None
    """The models on this device that were loaded from the same files, itself included; None if its files aren't certain."""

    @property
    def last_used_ns(self) -> int | None:
        """When it last ran, or may have run at the latest, realtime nanoseconds; None if that isn't known, or not by now."""
        return self.model.last_used_ns if self.process_state.liveness is Liveness.LIVE else None

    @property
    def is_twice(self) -> bool:
        """Whether this device holds what was loaded from these files more than once."""
        return self.copies is not None and self.copies.count > 1


class DeviceRow(Record):
    """One GPU, or host memory, with its models."""

    key: str
    """`gpu:<uuid>` or `host`; `<process key>:cuda:0` if it isn't known which GPU that is."""
    number: int
    """The digit key that selects it, 1–9."""
    title: str
    """`GPU 0  NVIDIA H100 80GB HBM3` or `Host memory`; contains `simulated` for a simulated device."""
    used_bytes: int | None
    total_bytes: int | None
    utilization_percent: int | None
    temperature_celsius: int | None
    power_watts: float | None
    models: tuple[ModelRow, ...]
    """Largest first."""
    parts: tuple[MemoryPart, ...] = ()
    """The used bytes by purpose."""
    unattached: tuple[UnattachedRow, ...] = ()
    """Processes on this device without a sidecar."""
    label: str = ""
    """A short name: `0` for GPU 0, `0.1` for slice 1 of it, `cuda:1`, `host`."""
    state: str = ""
    """What is unusual about it, in words: `lost`, `shared with the host`, `divided into slices`."""
    is_lost: bool = False
    """The driver can't reach it now."""
    is_divided: bool = False
    """Its memory is that of its slices, which are devices of their own."""
    shares_host_memory: bool = False
    """It uses the machine's memory, so that what it doesn't use isn't free."""

    @property
    def rest_is_free(self) -> bool:
        """Whether the bytes that aren't among its parts are free; False if that isn't known."""
        return not self.is_lost and not self.shares_host_memory and self.used_bytes is not None


class View(Record):
    """All data that the screens show."""

    devices: tuple[DeviceRow, ...]
    """GPUs in order, host memory last."""
    processes: tuple[ProcessState, ...]
    warnings: tuple[str, ...]
    """Safe to draw: unreadable files, refused directories, the sidecars' and the catalogue's warnings."""
    directories: tuple[str, ...]
    """The directories searched for snapshot files."""
    process_rows: tuple[ProcessRow, ...] = ()
    """Processes with a sidecar, then those on a GPU without one."""
    history: History = field(default_factory=History)
    """Past events and samples, as far as they were recorded."""
    progress: str = ""
    """`indexing 1,234 of 10,000` while model files are being read, else empty."""
    filtered_by: str = ""
    """The filters that left this of everything, in words: `user ada, kind lora`. Safe to draw; empty without filters."""
    unfiltered: View | None = None
    """The view that this was left of; None without filters."""
    failed_and_exited: tuple[ProcessState, ...] = ()
    """Processes that exited with a failed allocation on record. Nothing else is shown of them."""

    @property
    def everything(self) -> View:
        """The view without filters: what isn't in it isn't there at all."""
        return self if self.unfiltered is None else self.unfiltered


def rank(row: ModelRow) -> tuple[bool, bool, int, int, str, str]:
    """The default sort key: dead processes' models after all others, the line for small models last, else the largest first."""
    is_dead = row.process_state.liveness is Liveness.DEAD
    return (is_dead, row.model.id == SMALL_MODELS_ID, -row.on_bytes, -row.off_bytes, row.name, row.key)
