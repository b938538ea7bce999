"""A view with what the filters leave: the same rows, fewer of them. Figures of devices stay those of the whole device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gpumodels_shared.records import Record, replace
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.events import Event, History
from gpumodels_tui.view.filters import (
    NO_FILTERS,
    Filters,
    ProcessTraits,
    is_of_process,
    traits_of,
    traits_without_sidecar,
)
from gpumodels_tui.view.rows import DeviceRow, ModelRow, View


class _ModelTraits(Record):
    """What a model of an event was when it was last there."""

    name: str
    kind: str
    most_bytes: int
    process_key: str
    was_twice: bool
    """Whether there was another of the same files at any time."""


class ViewFilter:
    """Filters view after view. What didn't change stays the same object, by which the screens notice it."""

    def __init__(self) -> None:
        self.filters = NO_FILTERS
        self._of: tuple[View, Filters] | None = None
        self._shown: View | None = None
        self._processes: dict[str, ProcessTraits] = {}
        self._models: dict[str, _ModelTraits] = {}
        """Of all that events tell of, as they were when they were last there."""
        self._devices: tuple[DeviceRow, ...] = ()
        self._states: tuple[ProcessState, ...] = ()
        self._rows: dict[str, ModelRow] = {}
        """What was remembered from the last view."""

    def shown(self, view: View) -> View:
        """What is left of the view by the present filters."""
        self._remember(view)
        if not self.filters.has_any:
            self._of, self._shown = None, None
            return view
        before, last = None, self._shown
        if self._of is not None and self._of[1] == self.filters:
            before = self._of[0]
        if last is not None and before is not None and _has_same_rows(before, view):
            shown = replace(last, warnings=view.warnings, progress=view.progress, unfiltered=view)
        else:
            shown = filtered(view, self.filters)
        is_same_history = last is not None and before is not None and before.history is view.history
        history = last.history if last is not None and is_same_history else self._history(view)
        self._of, self._shown = (view, self.filters), replace(shown, history=history)
        return self._shown

    def _remember(self, view: View) -> None:
        """Note what filters need to know of what ends; most of it is the same objects as before."""
        if view.devices is self._devices and view.processes is self._states:
            return
        self._devices, self._states = view.devices, view.processes
        before, self._rows = self._rows, {}
        for device in view.devices:
            for row in device.models:
                self._rows[row.key] = row
                if before.get(row.key) is not row:
                    seen = self._models.get(row.key)
                    most = max(row.model.size_bytes, 0 if seen is None else seen.most_bytes)
                    was_twice = row.is_twice or (seen is not None and seen.was_twice)
                    self._models[row.key] = _ModelTraits(row.name, row.kind, most, row.process_state.key, was_twice)
                    self._processes[row.process_state.key] = traits_of(row.process_state)
        for process in (*view.processes, *view.failed_and_exited):
            if process.key not in self._processes:
                self._processes[process.key] = traits_of(process)
        if len(self._models) > 2 * len(view.history.events) + 1000:
            self._forget(view)

    def _forget(self, view: View) -> None:
        """Keep only what is still there, or what an event tells of."""
        models = {row.key for device in view.devices for row in device.models}
        models |= {event.model_key for event in view.history.events if event.model_key is not None}
        processes = {process.key for process in view.processes}
        processes |= {event.process_key for event in view.history.events if event.process_key is not None}
        self._models = {key: traits for key, traits in self._models.items() if key in models}
        self._processes = {key: traits for key, traits in self._processes.items() if key in processes}

    def _history(self, view: View) -> History:
        keys = self.filters.devices((one.key, one.label, one.title) for one in view.devices)
        labels = {one.key: one.label for one in view.devices}
        chosen = None if keys is None else {key: labels.get(key, "") for key in keys}
        return History(tuple(one for one in view.history.events if self._has_event(one, chosen)), view.history.samples)

    def _has_event(self, event: Event, devices: Mapping[str, str] | None) -> bool:
        """An event of a process is one of all its models, unless models are chosen."""
        if devices is not None and event.device and not any(event.is_on(key, label) for key, label in devices.items()):
            return False
        process = self._processes.get(event.process_key or "")
        if self.filters.of_processes and (process is None or not self.filters.has_process(process)):
            return False
        if not self.filters.of_models:
            return True
        if event.model_key is None:
            return any(
                one.process_key == event.process_key
                and self.filters.has_model(one.name, one.kind, one.most_bytes, is_twice=one.was_twice)
                for one in self._models.values()
            )
        model = self._models.get(event.model_key)
        return model is not None and self.filters.has_model(model.name, model.kind, model.most_bytes, is_twice=model.was_twice)


def filtered(view: View, filters: Filters) -> View:
    """What the filters leave of the view; its history stays whole."""
    if not filters.has_any:
        return view
    keys = filters.devices((device.key, device.label, device.title) for device in view.devices)
    known: dict[str, bool] = {}

    def is_shown(process: ProcessState) -> bool:
        if process.key not in known:
            known[process.key] = filters.has_process(traits_of(process))
        return known[process.key]

    devices = tuple(_device(device, filters, is_shown) for device in view.devices if keys is None or device.key in keys)
    with_models = {row.process_state.key for device in devices for row in device.models}
    rows = tuple(
        row
        for row in view.process_rows
        if (is_shown(row.state) if row.state is not None else filters.has_process(traits_without_sidecar(row)))
        and (not filters.of_models or row.key in with_models)
        and (keys is None or row.key in with_models or any(device.key in keys for device in row.devices))
    )
    shown = {row.key for row in rows}
    hidden = [process.key for process in view.processes if process.key not in shown]
    devices = tuple(device for device in devices if not any(is_of_process(device.key, key) for key in hidden))
    processes = tuple(process for process in view.processes if process.key in shown)
    return replace(view, devices=devices, processes=processes, process_rows=rows, filtered_by=filters.in_words(), unfiltered=view)


def _device(device: DeviceRow, filters: Filters, is_shown: Callable[[ProcessState], bool]) -> DeviceRow:
    without = () if filters.of_models else device.unattached
    return replace(
        device,
        models=tuple(
            row
            for row in device.models
            if filters.has_model(row.name, row.kind, row.model.size_bytes, is_twice=row.is_twice) and is_shown(row.process_state)
        ),
        unattached=tuple(row for row in without if filters.has_process(traits_without_sidecar(row))),
    )


def _has_same_rows(before: View, after: View) -> bool:
    return before.devices is after.devices and before.process_rows is after.process_rows and before.processes is after.processes
