"""What the screens draw: one immutable view of feed, hardware and catalogue, made anew when one of them changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import SMALL_MODELS_ID, Model
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.devices import join_devices, process_title
from gpumodels_tui.enrichment import enrich, merged_metadata
from gpumodels_tui.feed import FeedState, ProcessState
from gpumodels_tui.gpus import HardwareState


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
    """`offloaded from cuda:0`, `stalled`, `dead`: a state that the columns don't show."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Raw keys, the snapshot's and the files' together. Not made safe: draw through safe_text."""


@dataclass(frozen=True, slots=True)
class DeviceRow:
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


def build_view(feed: FeedState, hardware: HardwareState, catalogue: CatalogueState) -> View:
    """The view of this moment. Pure: equal input gives an equal view."""
    processes = tuple(process for process in feed.processes if process.liveness is not Liveness.EXITED)
    joined = join_devices(replace(feed, processes=processes), hardware)
    rows: dict[str, list[ModelRow]] = {device.key: [] for device in joined.devices}
    for process in processes:
        if process.snapshot is None:
            continue
        title = process_title(process)
        for model in process.snapshot.models:
            name, facts = enrich(model, catalogue)
            metadata = merged_metadata(model, catalogue)
            for device in _devices_of(model):
                key = joined.keys.get((process.key, device))
                if key is not None:
                    rows[key].append(_row(process, title, model, device, name, facts, metadata))
    devices = tuple(
        DeviceRow(
            key=device.key,
            number=number,
            title=device.title,
            used_bytes=device.used_bytes,
            total_bytes=device.total_bytes,
            utilization_percent=device.utilization_percent,
            temperature_celsius=device.temperature_celsius,
            power_watts=device.power_watts,
            models=tuple(sorted(rows[device.key], key=_rank)),
        )
        for number, device in enumerate(joined.devices, start=1)
    )
    return View(devices, processes, warnings_of(feed, hardware, catalogue), tuple(map(_shown_path, feed.directories)))


def warnings_of(feed: FeedState, hardware: HardwareState, catalogue: CatalogueState) -> tuple[str, ...]:
    """All that isn't as it should be, a line each, safe to draw."""
    lines = [_about(_shown_path(one.path), one.reason) for one in feed.unreadable]
    if hardware.problem is not None:
        lines.append(hardware.problem)
    for process in feed.processes:
        if process.liveness is Liveness.EXITED:
            continue
        said = process.snapshot.warnings if process.snapshot is not None else ()
        problems = () if process.problem is None else (f"its newest snapshot can't be read: {process.problem}",)
        lines += [f"{process_title(process)}: {text}" for text in (*problems, *said)]
    lines += catalogue.warnings
    return tuple(safe_text(line) for line in dict.fromkeys(lines))


def _about(path: str, reason: str) -> str:
    return reason if reason.startswith(path) else f"{path}: {reason}"


def _shown_path(path: Path) -> str:
    return safe_text(str(path))


def _devices_of(model: Model) -> list[str]:
    """Where it has bytes, and where it runs even if it is offloaded as a whole."""
    home = model.device or "cpu"
    holding = [device for device, size in model.bytes_by_device.items() if size > 0 and device != "meta"]
    if home == "meta":
        home = "cpu"
    return holding if home in holding or (model.id == SMALL_MODELS_ID and holding) else [home, *holding]


def _row(
    process: ProcessState,
    title: str,
    model: Model,
    device: str,
    name: str,
    facts: Mapping[str, str],
    metadata: Mapping[str, str],
) -> ModelRow:
    home = model.device or "cpu"
    in_host = model.bytes_by_device.get("cpu", 0)
    if device == home:
        off_bytes = model.offloaded_bytes
    elif device == "cpu":
        off_bytes = max(0, model.offloaded_bytes - in_host)
    else:
        off_bytes = 0  # told once, where the model runs
    return ModelRow(
        key=f"{process.key}/{model.id}",
        name=name,
        kind=safe_text(model.kind, 20),
        on_bytes=model.bytes_by_device.get(device, 0),
        off_bytes=off_bytes,
        layers=model.layers,
        dtype=_main_dtype(model),
        loaded_at_ns=model.loaded_at_ns,
        process=title,
        model=model,
        process_state=process,
        facts=facts,
        note=", ".join(_notes(process, model, device, home)),
        metadata=metadata,
    )


def _notes(process: ProcessState, model: Model, device: str, home: str) -> list[str]:
    notes = [process.liveness.value] if process.liveness is not Liveness.LIVE else []
    if device == "cpu" and home != "cpu":
        notes.append(f"offloaded from {safe_text(home, 40)}")
    others = sorted(other for other, size in model.bytes_by_device.items() if size > 0 and other not in ("cpu", "meta", device))
    if device != "cpu" and others:
        notes.append(f"also on {', '.join(safe_text(other, 40) for other in others[:8])}")
    return notes


def _main_dtype(model: Model) -> str:
    if not model.dtypes or not model.resident_bytes:
        return ""
    most = max(model.dtypes, key=lambda dtype: (model.dtypes[dtype], dtype))
    return safe_text(most, 40) + ("+" if len(model.dtypes) > 1 else "")


def _rank(row: ModelRow) -> tuple[bool, bool, int, int, str, str]:
    """What is in memory above what was when its process died; one line of small ones last."""
    is_dead = row.process_state.liveness is Liveness.DEAD
    return (is_dead, row.model.id == SMALL_MODELS_ID, -row.on_bytes, -row.off_bytes, row.name, row.key)
