"""Compares successive views to record events, and samples the memory used over the last hour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import Record, replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import SMALL_MODELS_ID, OutOfMemory
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.device_names import HOST, devices_named, process_title
from gpumodels_tui.view.events import Event, EventKind, History
from gpumodels_tui.view.model_naming import PENDING_MARK
from gpumodels_tui.view.rows import DeviceRow, ModelRow, View

MOST_EVENTS: Final = 1000
LEAST_CHANGE_BYTES: Final = 1024**2
LEAST_CHANGE_SHARE: Final = 0.005
"""A change of less than this share of the model's size is not recorded."""
SAME_SECONDS: Final = 60
"""Repetitions of an event within this time are recorded as one event with a count."""
MOST_MODELS_LISTED: Final = 100
"""The most models listed in an event; nobody reads more than a hundred."""
SEARCHED_EVENTS: Final = 40
"""How many of the latest events are searched for an earlier occurrence."""
SAMPLE_SECONDS: Final = 5
KEPT_SECONDS: Final = 3600
HOSTS_NAME: Final = "cpu"
"""torch's name for host memory."""
STALLS: Final = {
    (Liveness.LIVE, Liveness.STALLED): EventKind.STALLED,
    (Liveness.STALLED, Liveness.LIVE): EventKind.RESUMED,
}
"""The events of a process that stops giving signs of life, or gives them again, by its state before and after."""


class Recorder:
    """Records events from one view to the next. For what was there in the first view, the sidecars' times are used."""

    def __init__(self) -> None:
        self._before: View | None = None
        self._events: list[Event] = []
        self._samples: dict[str, list[tuple[int, int | None]]] = {}
        self._most: dict[str, int] = {}
        self._sampled_at = float("-inf")
        self._number = 0
        self._pending: set[str] = set()
        """Keys of the models whose events were recorded under a pending name."""
        self._history = History()

    def record(self, view: View, now_ns: int) -> History:
        """Record the changes since the previous view. Returns the same object while nothing is new."""
        if view is self._before and now_ns // 10**9 - self._sampled_at < SAMPLE_SECONDS:
            return self._history
        new: Iterator[Event] = iter(())
        if self._before is None:
            new = iter(sorted(initial_events(view), key=lambda event: event.at_ns))
        elif view is not self._before:
            new = events_between(self._before, view, now_ns)
        count = self._number
        for event in new:
            self.remember(event)
        renamed = bool(self._pending) and view is not self._before and self._rename_pending(view)
        sampled = self._sample(view, now_ns // 10**9)
        self._before = view
        if sampled or renamed or self._number != count:
            events = self.events if renamed or self._number != count else self._history.events
            samples = {key: tuple(values) for key, values in self._samples.items()} if sampled else self._history.samples
            self._history = History(events, samples)
        return self._history

    @property
    def events(self) -> tuple[Event, ...]:
        """Those recorded so far, newest first."""
        return tuple(reversed(self._events))

    def remember(self, event: Event) -> None:
        """Add an event; one that repeats a recent one is counted with it, and a model's new name is given to its events."""
        if event.kind is EventKind.RENAMED:
            if event.model_key in self._pending:
                others = self._pending - {event.model_key}
                self._give_names({event.model_key: event.name})
                self._pending |= others
            return
        self._number += 1
        for position in range(len(self._events) - 1, max(len(self._events) - SEARCHED_EVENTS, 0) - 1, -1):
            old = self._events[position]
            if _repeats(event, old):
                if event.at_ns - old.at_ns <= SAME_SECONDS * 10**9 and event.model_key is not None:
                    del self._events[position]
                    event = replace(event, times=old.times + 1)
                break
        if event.model_key is not None and event.name.endswith(PENDING_MARK):
            self._pending.add(event.model_key)
        self._events.append(replace(event, number=self._number))
        del self._events[:-MOST_EVENTS]

    def _rename_pending(self, view: View) -> bool:
        """Give events the names that their models have by now; the pending one stays if a model ended before it had another."""
        return self._give_names({row.key: row.name for device in view.devices for row in device.models})

    def _give_names(self, names: Mapping[str, str]) -> bool:
        names = {key: name for key, name in names.items() if key in self._pending}
        self._pending = {key for key, name in names.items() if name.endswith(PENDING_MARK)}
        renamed = False
        for position, event in enumerate(self._events):
            name = names.get(event.model_key) if event.model_key is not None else None
            if name is not None and event.name.endswith(PENDING_MARK) and not name.endswith(PENDING_MARK):
                self._events[position] = replace(event, name=name)
                renamed = True
        return renamed

    def _sample(self, view: View, now: int) -> bool:
        for device in view.devices:
            if device.used_bytes is not None:
                self._most[device.key] = max(self._most.get(device.key, 0), device.used_bytes)
        if now - self._sampled_at < SAMPLE_SECONDS:
            return False
        self._sampled_at = now
        for key, used in self._most.items():
            values = self._samples.setdefault(key, [])
            values.append((now, used))
            while values[0][0] < now - KEPT_SECONDS:
                del values[0]
        for key, values in self._samples.items():
            if key not in self._most and values[-1][1] is not None:
                values.append((now, None))  # it is lost, or isn't there any more
        # A device may disappear for a while, as when the driver is reset; its earlier samples are kept.
        for gone in [key for key, values in self._samples.items() if values[-1][0] < now - KEPT_SECONDS]:
            del self._samples[gone]
        self._most = {}
        return True


def events_between(before: View, after: View, now_ns: int) -> Iterator[Event]:
    """The events that explain the difference between two views, those of processes first."""
    old, new = _models(before), _models(after)
    ended: set[str] = set()
    states = {process.key: process for process in before.processes}
    for process in after.processes:
        previous = states.pop(process.key, None)
        title = process_title(process)
        if previous is None:
            yield Event(0, now_ns, EventKind.STARTED, title, title, process_key=process.key)
            yield from _told_failures(process, failures_of(process), after, now_ns)
        elif previous.liveness is not Liveness.DEAD and process.liveness is Liveness.DEAD:
            ended.add(process.key)
            yield from _out_of_memory_events(previous, process, after, (old, new), now_ns)
            yield _end_event(EventKind.DIED, process, old, now_ns)
        else:
            yield from _out_of_memory_events(previous, process, after, (old, new), now_ns)
            if (previous.liveness, process.liveness) in STALLS:
                kind = STALLS[previous.liveness, process.liveness]
                yield Event(0, now_ns, kind, title, title, process_key=process.key)
    exited = {process.key: process for process in after.failed_and_exited}
    for process in states.values():
        ended.add(process.key)
        if process.key in exited:  # its last words
            yield from _out_of_memory_events(process, exited[process.key], after, (old, new), now_ns)
        yield _end_event(EventKind.EXITED, process, old, now_ns)
    known = {process.key for process in (*before.processes, *before.failed_and_exited)}
    for key in exited.keys() - known:  # it started, failed and exited meanwhile
        yield from _told_failures(exited[key], failures_of(exited[key]), after, now_ns)
    for key, model in old.items():
        if key not in new and model.row.process_state.key not in ended:
            yield _event(EventKind.UNLOADED, now_ns, model, model.main_device_key, model.size)
    for key, model in new.items():
        if key not in old:
            yield _event(EventKind.LOADED, now_ns, model, model.main_device_key, model.size)
        elif model.row is not old[key].row and not (model.is_paged or old[key].is_paged):
            yield from _changes(old[key], model, now_ns)


def _end_event(kind: EventKind, process: ProcessState, models: Mapping[str, _LocatedModel], now_ns: int) -> Event:
    """A process's end, with the models that it held until then."""
    held = [(model.row.name, model.held) for model in models.values() if model.row.process_state.key == process.key]
    size, title = sum(size for _, size in held), process_title(process)
    return Event(0, now_ns, kind, title, title, size_bytes=size, process_key=process.key, held=_largest(held))


def _largest(held: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(((name, size) for name, size in held if size), key=lambda one: (-one[1], one[0]))[:MOST_MODELS_LISTED])


def _models_on_device(
    models: Sequence[Mapping[str, _LocatedModel]], device_key: str | None, process_key: str
) -> tuple[tuple[str, int], ...]:
    """The models on the device at that time, with their most bytes; all of the process's models if the device isn't known."""
    held: dict[str, tuple[str, int]] = {}
    for seen in models:
        for key, model in seen.items():
            own = model.held if model.row.process_state.key == process_key else 0
            size = own if device_key is None else model.on.get(device_key, ("", 0))[1]
            held[key] = (model.row.name, max(size, held.get(key, ("", 0))[1]))
    return _largest(list(held.values()))


def _out_of_memory_events(
    previous: ProcessState, process: ProcessState, view: View, models: tuple[Mapping[str, _LocatedModel], ...], now_ns: int
) -> Iterator[Event]:
    """The devices where memory ran out since the last view, with the most that the allocator and the models held.

    Sidecars record each failure; what the allocator counts beyond that is by one that recorded none.
    """
    known = {memory.device: memory for memory in devices_named(previous)}
    earlier = {(failure.at_ns, failure.device) for failure in failures_of(previous)}
    recorded = failures_of(process)
    failures = [failure for failure in recorded if (failure.at_ns, failure.device) not in earlier]
    for memory in devices_named(process):
        before = known.get(memory.device)
        times = (memory.out_of_memory_count or 0) - ((before.out_of_memory_count or 0) if before is not None else 0)
        new = [failure for failure in failures if failure.device == memory.device]
        if times > 0 and (new or not any(failure.device == memory.device for failure in recorded)):
            failures = [failure for failure in failures if failure not in new]
            title = process_title(process)
            reserved = max(memory.reserved_bytes or 0, (before.reserved_bytes or 0) if before is not None else 0)
            device_key, label, key = _place_of(view, process, memory.device)
            held = _models_on_device(models, device_key, process.key)
            yield Event(0, now_ns, EventKind.OUT_OF_MEMORY, title, title, label, reserved, None, times, process.key, held, key)
    yield from _told_failures(process, failures, view, now_ns)


def failures_of(process: ProcessState) -> tuple[OutOfMemory, ...]:
    """The failed allocations that a process's sidecar recorded, oldest first."""
    return process.snapshot.out_of_memory if process.snapshot is not None else ()


def _told_failures(
    process: ProcessState, failures: Sequence[OutOfMemory], view: View, now_ns: int | None = None
) -> Iterator[Event]:
    """An event for each record, with what it tells.

    Args:
        now_ns: when they were noticed here; None for their own times.
    """
    title = process_title(process)
    for failure in failures:
        _, label, key = _place_of(view, process, failure.device)
        at_ns, held = failure.at_ns if now_ns is None else now_ns, failure.models[:MOST_MODELS_LISTED]
        size = failure.reserved_bytes or 0
        yield Event(0, at_ns, EventKind.OUT_OF_MEMORY, title, title, label, size, None, 1, process.key, held, key)


def _place_of(view: View, process: ProcessState, name: str | None) -> tuple[str | None, str, str | None]:
    """The key of the device that a process calls by this name, if it is shown; what it is called, and the key for events.

    A device that isn't shown has a key for events that no other has, as one that isn't joined with the driver's.
    """
    if name is None:
        return None, "", None
    row = _device_of(view, process.key, name)
    if row is not None:
        return row.key, row.label, row.key
    return None, safe_text(name, 40), f"{process.key}:{name}"


def _device_of(view: View, process_key: str, name: str) -> DeviceRow | None:
    """The device that a process calls by this name (`cuda:0`, `cpu`); None if it isn't known."""
    devices = {device.key: device for device in view.devices}
    if name == HOSTS_NAME:
        return devices.get(HOST)
    for row in view.process_rows:
        for device in row.devices if row.key == process_key else ():
            if device.name == name and device.key in devices:
                return devices[device.key]
    return None


class _LocatedModel(Record, frozen=False):
    """One model of a view, on all its devices."""

    row: ModelRow
    on: dict[str, tuple[str, int]]
    """The label and bytes of each device, by device key."""

    @property
    def is_paged(self) -> bool:
        """Whether single pages of it come and go, which is no event: it neither moves nor changes its size."""
        return self.row.model.dynamic_memory

    @property
    def held(self) -> int:
        return sum(size for _, size in self.on.values())

    @property
    def size(self) -> int:
        """How large it is when it is loaded, and unloaded."""
        return self.row.model.size_bytes if self.is_paged else self.held

    @property
    def on_host(self) -> int:
        return self.on.get(HOST, ("", 0))[1]

    @property
    def main_device_key(self) -> str:
        return max(self.on, key=lambda key: self.on[key][1])


def _models(view: View) -> dict[str, _LocatedModel]:
    found: dict[str, _LocatedModel] = {}
    for device in view.devices:
        for row in device.models:
            if row.model.id != SMALL_MODELS_ID:
                seen = found.get(row.key)
                if seen is None:
                    seen = found[row.key] = _LocatedModel(row, {})
                seen.on[device.key] = (device.label, row.on_bytes)
    return found


def _changes(old: _LocatedModel, new: _LocatedModel, now_ns: int) -> Iterator[Event]:
    """A model's changes on each device. Bytes that appear on a GPU while as many leave host memory have moved.

    They are those that its process reports, by its own names for the devices: which GPUs these are can become known or unknown
    while nothing happens to the model, as when a GPU is lost.
    """
    least = max(LEAST_CHANGE_BYTES, LEAST_CHANGE_SHARE * max(old.held, new.held))
    more_off = new.row.model.offloaded_bytes - old.row.model.offloaded_bytes
    less_off = -more_off
    moved = False
    held_before, held_now = old.row.model.bytes_by_device, new.row.model.bytes_by_device
    for name in {**held_before, **held_now}:
        change = held_now.get(name, 0) - held_before.get(name, 0)
        if name in ("cpu", "meta") or abs(change) < least:
            continue
        key = (new if name in held_now else old).row.device_keys.get(name, "")
        if change > 0:
            from_host = max(old.on_host - new.on_host, less_off) >= change // 2
            yield _event(EventKind.MOVED_ON if from_host else EventKind.GREW, now_ns, new, key, change, old)
        else:
            to_host = max(new.on_host - old.on_host, more_off) >= -change // 2
            yield _event(EventKind.MOVED_OFF if to_host else EventKind.SHRANK, now_ns, new, key, -change, old)
        moved = True
    change = new.on_host - old.on_host
    if not moved and abs(change) >= least:
        yield _event(EventKind.GREW if change > 0 else EventKind.SHRANK, now_ns, new, HOST, abs(change), old)


def initial_events(view: View) -> Iterator[Event]:
    """The start of each process and model in the first view, and the failed allocations that are on record."""
    for process in view.failed_and_exited:
        yield from _told_failures(process, failures_of(process), view)
    for process in view.processes:
        yield from _told_failures(process, failures_of(process), view)
        if process.snapshot is not None:
            title = process_title(process)
            started = process.snapshot.process.started_at_ns
            yield Event(0, started, EventKind.STARTED, title, title, process_key=process.key)
    for model in _models(view).values():
        yield _event(EventKind.LOADED, model.row.loaded_at_ns, model, model.main_device_key, model.size)


def _event(kind: EventKind, at_ns: int, model: _LocatedModel, key: str, size: int, before: _LocatedModel | None = None) -> Event:
    """An event of a model on the device with this key, which it may have left since `before`."""
    row = model.row
    label = next((seen.on[key][0] for seen in (model, before) if seen is not None and key in seen.on), "")
    return Event(0, at_ns, kind, row.name, row.process, label, size, row.key, process_key=row.process_state.key, device_key=key)


def _repeats(event: Event, old: Event) -> bool:
    """Whether it is the same as the older event, but for its time and size."""
    return (old.kind, old.model_key, old.device, old.device_key, old.name) == (
        event.kind,
        event.model_key,
        event.device,
        event.device_key,
        event.name,
    )
