"""The metrics by Prometheus's conventions: base units, a prefix, what is unknown is absent and never 0, a bounded set of labels.

Every scrape makes all series anew, so none outlives what it speaks of. Devices are named by the short name that the screens use,
`0` for GPU 0; `gpumodels_device_info` has the UUID. No pid, path or argument is in a label unless it was asked for.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import Record, replace
from gpumodels_shared.schema import KINDS, SMALL_MODELS_ID
from gpumodels_tui.outside.facts import KnownBy
from gpumodels_tui.service.observed import Observed
from gpumodels_tui.service.series_names import SeriesNames, label
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.copies import Resident, copies_of
from gpumodels_tui.view.device_names import HOST, Device, devices_named, holds_memory, join_devices
from gpumodels_tui.view.filtering import filtered
from gpumodels_tui.view.filters import NO_FILTERS, Filters
from gpumodels_tui.view.memory_parts import OF_MODELS, PartKind
from gpumodels_tui.view.rows import ModelRow, View

MOST_MODELS: Final = 100
OTHER: Final = "other"
"""The name and id of the models beyond the largest ones, summed up."""

SMALL: Final = "small models"
"""The name of the entry that sums up a process's small models, however many there are."""

MODELS: Final = "models"
PARTS: Final = {kind: MODELS if kind in OF_MODELS else kind.value.replace(" ", "_") for kind in PartKind}


class Choices(Record):
    """What the operator chose."""

    filters: Filters = NO_FILTERS
    """Which processes, models and GPUs have series."""
    most_models: int = MOST_MODELS
    """How many models have series of their own: the largest."""
    with_pid: bool = False
    """Whether `gpumodels_process_info` has the pid."""
    with_paths: bool = False
    """Whether `gpumodels_model_info` has the whole path of the model's file instead of its name."""


class ModelMetrics(Collector):
    """Collects from the newest state; without one (not read yet, or failed) only `gpumodels_up 0` and the build are left."""

    def __init__(self, observed: Callable[[], Observed | None], version: str, choices: Choices) -> None:
        self._observed = observed
        self._version = version
        self._choices = choices
        self._names = SeriesNames()
        self._devices: Mapping[str, str] = {}
        """What series call the devices, by key."""
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """All families, each with its help, also if it has no series. Scrapes at the same time wait for each other."""
        seen = self._observed()
        yield _gauge("build_info", "The version of gpumodels.", {"version": self._version}, 1)
        yield _gauge("up", "Whether the sources are being read.", {}, int(seen is not None))
        if seen is not None:
            with self._lock:
                families = list(self._families(seen))
            yield from families

    def _families(self, seen: Observed) -> Iterator[Metric]:
        # Names are of everything: which second process is `main.py (2)` must not depend on a filter.
        self._names.keep(seen.view.processes, _living_rows(seen.view))
        self._devices = _device_names(seen.view)
        seen = replace(seen, view=filtered(seen.view, self._choices.filters))
        processes, rows = seen.view.processes, list(_living_rows(seen.view))
        yield _processes_by_state(processes)
        named = [state for state in processes if self._names.has_name(state)]
        yield from self._of_devices(seen)
        yield from self._of_processes(seen, named)
        yield from self._of_models(seen, rows)
        yield from self._of_sidecars(seen, named)
        yield from _of_changes(seen)

    def _of_devices(self, seen: Observed) -> Iterator[Metric]:
        joined = join_devices(seen.snapshots.feed, seen.snapshots.hardware)
        # A `cuda:0` that may be any of the driver's GPUs would be counted twice.
        shown = {device.key for device in seen.view.devices}
        devices = [device for device in joined.devices if device.is_distinct and device.key in shown]
        names = self._devices
        info = GaugeMetricFamily("gpumodels_device_info", "A GPU, or the host's memory.", labels=["device", "uuid", "name"])
        for device in devices:
            if device.key != HOST:
                info.add_metric([names[device.key], label(device.uuid or ""), label(device.name or "")], 1)
        yield info
        for name, text, read in DEVICE_READINGS:
            family = GaugeMetricFamily(f"gpumodels_device_{name}", text, labels=["device"])
            for device in devices:
                if (value := read(device)) is not None:
                    family.add_metric([names[device.key]], value)
            yield family
        unattached = GaugeMetricFamily(
            "gpumodels_device_unattached_processes", "Processes on the device that have no sidecar.", labels=["device"]
        )
        of_driver = {f"gpu:{gpu.key}" for gpu in seen.snapshots.hardware.gpus if gpu.lost is None}
        for row in seen.view.devices:
            if row.key in of_driver:
                unattached.add_metric([names[row.key]], len(row.unattached))
        yield unattached
        text = (
            "A model of a process on the device that has no sidecar, as known from outside: mapped, open, or told by its server."
        )
        info = GaugeMetricFamily("gpumodels_unattached_model_info", text, labels=["device", "model", "known_by"])
        seen_outside = {
            (names[row.key], label(one.name), one.model.known_by.value): None
            for row in seen.view.devices
            if row.key in names
            for process in row.unattached
            for one in process.models
            if one.model.known_by is not KnownBy.ARGUMENT
        }
        for labels in list(seen_outside)[: self._choices.most_models]:
            info.add_metric(labels, 1)
        yield info

    def _of_processes(self, seen: Observed, processes: Iterable[ProcessState]) -> Iterator[Metric]:
        chosen = {state.key: state for state in processes}
        named = ["process", "user", "state", "rank", *(["pid"] if self._choices.with_pid else [])]
        info = GaugeMetricFamily("gpumodels_process_info", "A process with a sidecar.", labels=named)
        for state in chosen.values():
            rank = state.snapshot.process.rank if state.snapshot is not None else None
            values = [*self._names.process(state), state.liveness.value, "" if rank is None else str(rank)]
            info.add_metric([*values, str(state.pid)] if self._choices.with_pid else values, 1)
        yield info
        sizes: dict[tuple[str, ...], int] = {}
        names = self._devices
        for row in seen.view.process_rows:
            if row.state is None or row.state.key not in chosen:
                continue
            for device in row.devices:
                for part in device.parts:
                    labels = (*self._names.process(row.state), names[device.key], PARTS[part.kind])
                    sizes[labels] = sizes.get(labels, 0) + part.size_bytes
        yield _summed(
            "process_device_bytes",
            "Memory that a process holds on a device, by what it is for.",
            ["process", "user", "device", "part"],
            sizes,
        )

    def _of_models(self, seen: Observed, rows: Iterable[ModelRow]) -> Iterator[Metric]:
        held: dict[tuple[str, ...], int] = {}
        offloaded: dict[tuple[str, ...], int] = {}
        models = {row.key: row for row in rows}
        names = self._devices
        ranked = sorted(models, key=lambda key: (-models[key].model.resident_bytes - models[key].model.offloaded_bytes, key))
        own = {key: (_model_name(models[key]), self._names.model_id(models[key])) for key in ranked[: self._choices.most_models]}
        yield _gauge(
            "models", "Models in processes that live.", {}, sum(row.model.id != SMALL_MODELS_ID for row in models.values())
        )
        there = [(device.key, row) for device in seen.view.devices for row in device.models if row.key in models and row.on_bytes]
        for device, row in there:
            labels = (*own.get(row.key, (OTHER, OTHER)), *self._names.process(row.process_state), names[device])
            held[labels] = held.get(labels, 0) + row.on_bytes
        for row in models.values():
            of_one = (*own.get(row.key, (OTHER, OTHER)), *self._names.process(row.process_state))
            offloaded[of_one] = offloaded.get(of_one, 0) + row.model.offloaded_bytes
        of_model = ["model", "id", "process", "user"]
        yield _summed("model_device_bytes", "Memory that a model holds on a device.", [*of_model, "device"], held)
        text = "What of a model is not on the device where it runs: in host memory, on disk or not loaded."
        yield _summed("model_offloaded_bytes", text, of_model, offloaded)
        facts = ["file", "kind", "dtype", "class", "name_source"]
        info = GaugeMetricFamily("gpumodels_model_info", "A model, and where its name is from.", labels=[*of_model, *facts])
        confidence = GaugeMetricFamily("gpumodels_model_name_confidence_ratio", "How certain the name is.", labels=of_model)
        loaded = GaugeMetricFamily("gpumodels_model_loaded_timestamp_seconds", "When a model was first seen.", labels=of_model)
        text = "When a model last ran, or may have run at the latest, by what its process can tell: it has not run since."
        used = GaugeMetricFamily("gpumodels_model_last_used_timestamp_seconds", text, labels=of_model)
        for key, name in own.items():
            row, model = models[key], models[key].model
            of_one = (*name, *self._names.process(row.process_state))
            path = model.files[0] if model.files else ""
            file = label(path if self._choices.with_paths else path.rpartition("/")[2])
            info.add_metric([*of_one, file, row.kind, *map(label, (row.dtype, model.class_name, model.name_source))], 1)
            confidence.add_metric(of_one, model.confidence)
            if model.loaded_at_ns > 0:
                loaded.add_metric(of_one, model.loaded_at_ns / 1e9)
            if row.last_used_ns is not None and row.last_used_ns > 0:
                used.add_metric(of_one, row.last_used_ns / 1e9)
        yield from (info, confidence, loaded, used)
        text = "Models on the device that were loaded from the same files as this one, itself included."
        twice = GaugeMetricFamily("gpumodels_model_copies", text, labels=[*of_model, "device"])
        # Counted among those that are served, whichever processes the rows were counted among.
        copies = copies_of(Resident(device, row.model.id, row.on_bytes, row.model, row.process_state) for device, row in there)
        for device, row in there:
            found = copies.get((device, row.process_state.key, row.model.id))
            if row.key in own and found is not None:
                twice.add_metric([*own[row.key], *self._names.process(row.process_state), names[device]], found.count)
        yield twice

    def _of_sidecars(self, seen: Observed, processes: Iterable[ProcessState]) -> Iterator[Metric]:
        of_process = ["process", "user"]
        success = GaugeMetricFamily(
            "gpumodels_last_read_success", "Whether the newest reading worked.", labels=["source", *of_process]
        )
        if seen.snapshots.hardware.gpus or seen.snapshots.hardware.problems:
            success.add_metric(["driver", "", ""], int(not seen.snapshots.hardware.problems))
        age = GaugeMetricFamily("gpumodels_snapshot_age_seconds", "How old a process's newest snapshot is.", labels=of_process)
        scan = GaugeMetricFamily("gpumodels_sidecar_scan_seconds", "Processor time of a sidecar's last scan.", labels=of_process)
        modules = GaugeMetricFamily("gpumodels_sidecar_modules", "Modules that a sidecar knows.", labels=of_process)
        failures = CounterMetricFamily("gpumodels_sidecar_failures", "Errors of a sidecar since its start.", labels=of_process)
        memory_errors: dict[tuple[str, ...], int] = {}
        names = self._devices
        called = {
            (row.state.key, device.name): names[device.key]
            for row in seen.view.process_rows
            if row.state is not None
            for device in row.devices
        }
        for state in processes:
            named = self._names.process(state)
            success.add_metric(["snapshot", *named], int(state.problem is None))
            if state.snapshot_at_ns:
                age.add_metric(named, max(0.0, (seen.snapshots.taken_at_ns - state.snapshot_at_ns) / 1e9))
            if state.snapshot is None:
                continue
            scan.add_metric(named, state.snapshot.health.scan_seconds)
            modules.add_metric(named, state.snapshot.health.modules)
            failures.add_metric(named, state.snapshot.health.failures)
            for memory in devices_named(state):
                if memory.out_of_memory_count is not None and (device := called.get((state.key, memory.device))) is not None:
                    labels = (*named, device)
                    memory_errors[labels] = memory_errors.get(labels, 0) + memory.out_of_memory_count
        yield from (success, age, scan, modules, failures)
        text = "Out-of-memory errors that the allocator raised."
        yield _summed("out_of_memory", text, [*of_process, "device"], memory_errors, CounterMetricFamily)
        unreadable = "Files or folders among the sidecars' that can't be read; what they hold is in no series."
        yield _gauge("unreadable_files", unreadable, {}, len(seen.snapshots.feed.unreadable))


def _processes_by_state(processes: Iterable[ProcessState]) -> Metric:
    family = GaugeMetricFamily("gpumodels_processes", "Processes with a sidecar, by what is known of it.", labels=["state"])
    counts = Counter(state.liveness for state in processes)
    for liveness in Liveness:
        if liveness is not Liveness.EXITED:
            family.add_metric([liveness.value], counts[liveness])
    return family


def _of_changes(seen: Observed) -> Iterator[Metric]:
    for name, counts in (("loads", seen.loads), ("unloads", seen.unloads)):
        if counts is None:
            continue
        family = CounterMetricFamily(f"gpumodels_model_{name}", f"Model {name} since the service began.", labels=["kind"])
        for kind in KINDS:
            family.add_metric([kind], counts.get(kind, 0))
        yield family


def _model_name(row: ModelRow) -> str:
    return SMALL if row.model.id == SMALL_MODELS_ID else label(row.model.name)


def _device_names(view: View) -> dict[str, str]:
    """By key: `0`, `cuda:1`; the whole title where two devices have the same short name."""
    labels = [device.label for device in view.devices]
    return {device.key: label(device.label if labels.count(device.label) == 1 else device.title) for device in view.devices}


def _living_rows(view: View) -> Iterator[ModelRow]:
    """Those of processes that still hold them."""
    return (row for device in view.devices for row in device.models if holds_memory(row.process_state))


def _gauge(name: str, text: str, labels: Mapping[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(f"gpumodels_{name}", text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _summed(
    name: str,
    text: str,
    labels: list[str],
    sizes: Mapping[tuple[str, ...], int],
    of_type: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily,
) -> Metric:
    family = of_type(f"gpumodels_{name}", text, labels=labels)
    for values, size in sizes.items():
        family.add_metric(values, size)
    return family


def _is_up(device: Device) -> int | None:
    return None if device.key == HOST else int(device.lost is None)


def _share(percent: int | None) -> float | None:
    return None if percent is None else percent / 100


DEVICE_READINGS: Final[tuple[tuple[str, str, Callable[[Device], float | None]], ...]] = (
    ("up", "Whether the driver reaches the GPU: a lost one has no other figures.", _is_up),
    ("used_bytes", "Memory in use, as the driver counts it; without a driver, as the sidecars do.", lambda one: one.used_bytes),
    ("total_bytes", "The device's memory.", lambda one: one.total_bytes),
    ("utilization_ratio", "The share of time in which the GPU computed.", lambda one: _share(one.utilization_percent)),
    ("temperature_celsius", "The GPU's temperature.", lambda one: one.temperature_celsius),
    ("power_watts", "The power that the GPU draws.", lambda one: one.power_watts),
)
