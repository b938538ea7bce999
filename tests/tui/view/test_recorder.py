"""What happened: differences of consecutive views, and the last hour of memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import Model, OutOfMemory
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.events import Event, EventKind, History
from gpumodels_tui.view.model_facts import Fact
from gpumodels_tui.view.process_facts import facts_of_process
from gpumodels_tui.view.recorder import KEPT_SECONDS, MOST_EVENTS, SAMPLE_SECONDS, Recorder, events_between
from gpumodels_tui.view.rows import DeviceRow, View
from gpumodels_tui.widgets.memory_graph import columns_of
from snapshots import (
    A100,
    GIB,
    H100,
    MIB,
    NOON_NS,
    a_device,
    a_feed,
    a_gpu,
    a_model,
    a_process,
    a_process_state,
    a_snapshot,
    some_hardware,
)

SECOND = 10**9


def a_view(*models: Model, state: Liveness = Liveness.LIVE, used_bytes: int = 20 * GIB) -> View:
    """One process with these models on one GPU."""
    snapshot = a_snapshot(*models, process=a_process(), uuids={"cuda:0": H100})
    return view_of([a_process_state(snapshot, state)], used_bytes)


def view_of(processes: Sequence[ProcessState], used_bytes: int = 20 * GIB) -> View:
    return build_view(a_feed(*processes), some_hardware(a_gpu(used_bytes=used_bytes)), CatalogueState())


def on_gpu(name: str, size: int, off_bytes: int = 0) -> Model:
    return a_model(name, size, device="cuda:0", off_bytes=off_bytes)


def is_on(event: Event, device: DeviceRow) -> bool:
    return event.is_on(device.key, device.label)


def happened(before: View, after: View) -> list[tuple[str, str, int]]:
    return [(event.kind.value, event.name, event.size_bytes) for event in events_between(before, after, NOON_NS)]


def test_models_that_come_and_go_were_loaded_and_unloaded() -> None:
    with_one, with_other = a_view(on_gpu("one", GIB)), a_view(on_gpu("other", 2 * GIB))
    assert happened(with_one, with_other) == [("unloaded", "one", GIB), ("loaded", "other", 2 * GIB)]
    assert happened(with_one, with_one) == []


def test_what_leaves_the_gpu_for_host_memory_moved_and_comes_back() -> None:
    whole, half = a_view(on_gpu("wan", 8 * GIB)), a_view(on_gpu("wan", 3 * GIB, off_bytes=5 * GIB))
    assert happened(whole, half) == [("offloaded", "wan", 5 * GIB)]
    assert happened(half, whole) == [("moved to GPU", "wan", 5 * GIB)]


def test_what_changes_without_host_memory_grew_or_shrank() -> None:
    small, large = a_view(on_gpu("llm", 3 * GIB)), a_view(on_gpu("llm", 5 * GIB))
    assert happened(small, large) == [("grew", "llm", 2 * GIB)]
    assert happened(large, small) == [("shrank", "llm", 2 * GIB)]


def test_nothing_happens_to_models_when_a_gpu_is_lost_and_comes_back() -> None:
    """Up to 0.1.0 a GPU that NVML lost made its models shrink there and grow on `cuda:1`."""
    gpus = [a_gpu(0, H100), a_gpu(1, A100)]
    snapshot = a_snapshot(a_model("unet", bytes_by_device={"cuda:0": GIB, "cuda:1": 2 * GIB, "cpu": GIB}, device="cuda:1"))
    lost = replace(gpus[1], used_bytes=None, lost="GPU is lost", lost_at_ns=NOON_NS)
    states = [gpus, [gpus[0], lost], gpus[:1], [], [lost], gpus]
    views = [build_view(a_feed(snapshot), some_hardware(*state), CatalogueState()) for state in states]
    assert [happened(before, after) for before, after in pairwise(views)] == [[]] * 5


def test_a_model_in_host_memory_grows_too() -> None:
    assert happened(a_view(a_model("in-ram", GIB)), a_view(a_model("in-ram", 2 * GIB))) == [("grew", "in-ram", GIB)]


def test_a_change_too_small_to_care_about_is_no_event() -> None:
    assert happened(a_view(on_gpu("llm", 8 * GIB)), a_view(on_gpu("llm", 8 * GIB + 2 * MIB))) == []


def paged(on: int, off: int) -> View:
    """A model of ComfyUI's with dynamic VRAM."""
    return a_view(replace(on_gpu("wan", on, off_bytes=off), dynamic_memory=True))


def test_pages_that_come_and_go_are_no_event() -> None:
    in_host = a_view(a_model("wan", 8 * GIB))
    views = [in_host, paged(0, 8 * GIB), paged(6 * GIB, 2 * GIB), paged(8 * GIB, 0), paged(2 * GIB, 10 * GIB), in_host]
    assert [happened(before, after) for before, after in pairwise(views)] == [[]] * 5


def test_a_model_with_dynamic_memory_was_loaded_and_unloaded_as_a_whole() -> None:
    models = [on_gpu("other", GIB), replace(on_gpu("wan", GIB), dynamic_memory=True, offloaded_bytes=7 * GIB)]
    nothing, with_it = a_view(models[0]), a_view(*models)
    assert happened(nothing, with_it) == [("loaded", "wan", 8 * GIB)]
    assert happened(with_it, nothing) == [("unloaded", "wan", 8 * GIB)]
    assert happened(with_it, a_view(*models, state=Liveness.DEAD)) == [("died", "ComfyUI/main.py 4711", 2 * GIB)]


def test_processes_start_exit_and_die_with_what_they_held() -> None:
    nothing, running = view_of([]), a_view(on_gpu("m", GIB))
    assert happened(nothing, running) == [("started", "ComfyUI/main.py 4711", 0), ("loaded", "m", GIB)]
    assert happened(running, nothing) == [("exited", "ComfyUI/main.py 4711", GIB)]
    assert happened(running, a_view(on_gpu("m", GIB), state=Liveness.DEAD)) == [("died", "ComfyUI/main.py 4711", GIB)]


def a_view_after(count: int | None, reserved_bytes: int) -> View:
    """A process whose allocator gave up so often."""
    device = replace(a_device("cuda:0", GIB, H100, reserved_bytes=reserved_bytes), out_of_memory_count=count)
    return view_of([a_process_state(a_snapshot(on_gpu("m", GIB), devices=[device]))])


def test_memory_that_ran_out_is_told_with_device_bytes_and_how_often() -> None:
    before, after = a_view_after(1, 70 * GIB), a_view_after(3, 4 * GIB)
    (event,) = events_between(before, after, NOON_NS)
    assert (event.kind, event.name, event.size_bytes, event.times) == (
        EventKind.OUT_OF_MEMORY,
        "ComfyUI/main.py 4711",
        70 * GIB,
        2,
    )
    assert event.device == after.devices[0].label
    assert happened(after, after) == []
    assert happened(a_view_after(None, GIB), a_view_after(None, GIB)) == []


def test_the_device_that_ran_out_is_found_by_its_own_name_whatever_its_title_begins_with() -> None:
    def after(count: int) -> View:
        device = replace(a_device("MIG 1g.10gb", GIB, H100), out_of_memory_count=count)
        return view_of([a_process_state(a_snapshot(on_gpu("m", GIB), devices=[device]))])

    (event,) = events_between(after(0), after(1), NOON_NS)
    assert event.device in {device.label for device in after(1).devices}
    assert event.held


def test_what_happened_on_one_processs_device_happened_on_no_others_of_the_same_name() -> None:
    def after(count: int, *models: Model) -> View:
        """Two processes whose `cuda:0` may be any GPU, and the first one's models."""
        device = replace(a_device("cuda:0", GIB, reserved_bytes=GIB), out_of_memory_count=count)
        first = a_snapshot(*models, process=a_process(pid=1), devices=[device])
        second = a_snapshot(on_gpu("other", GIB), process=a_process(pid=2), devices=[a_device("cuda:0", GIB)])
        states = [a_process_state(first, key="first"), a_process_state(second, key="second")]
        return build_view(a_feed(*states), some_hardware(), CatalogueState())

    full, half, none = on_gpu("m", 4 * GIB), on_gpu("m", 2 * GIB, off_bytes=2 * GIB), a_model("m", 4 * GIB)
    views = [after(0), after(0, full), after(1, half), after(1, none), after(1)]
    devices = {device.key: device for device in views[0].devices}
    assert devices["first:cuda:0"].label == devices["second:cuda:0"].label
    events = [event for before, now in pairwise(views) for event in events_between(before, now, NOON_NS)]
    kinds = [EventKind.LOADED, EventKind.OUT_OF_MEMORY, EventKind.MOVED_OFF, EventKind.MOVED_OFF]
    assert [event.kind for event in events[:-1]] == kinds
    for event in events[:-1]:
        assert is_on(event, devices["first:cuda:0"])
        assert not is_on(event, devices["second:cuda:0"])
    assert is_on(events[-1], devices["host"])


def test_memory_that_ran_out_on_a_device_that_is_not_shown_ran_out_on_none_that_is() -> None:
    view = a_view(on_gpu("m", GIB))
    (process,) = view.processes
    assert process.snapshot is not None
    device = replace(a_device(f"{view.devices[0].label}", GIB), out_of_memory_count=1)
    later = replace(view, processes=(replace(process, snapshot=replace(process.snapshot, devices=(device,))),))
    (event,) = events_between(view, later, NOON_NS)
    assert event.device == view.devices[0].label
    assert not any(is_on(event, row) for row in later.devices)


def test_memory_that_ran_out_before_anybody_looked_stands_with_the_process() -> None:
    (row,) = a_view_after(3, GIB).process_rows
    assert Fact("errors", "out of memory on cuda:0, 3× since the process started") in facts_of_process(row, NOON_NS / 1e9)
    (row,) = a_view_after(0, GIB).process_rows
    assert "ran out" not in {fact.label for fact in facts_of_process(row, NOON_NS / 1e9)}


def test_what_was_there_when_one_came_is_told_by_its_own_times_newest_first() -> None:
    history = Recorder().record(a_view(on_gpu("m", GIB)), NOON_NS)
    assert [(event.kind, event.at_ns) for event in history.events] == [
        (EventKind.LOADED, NOON_NS - 120 * SECOND),
        (EventKind.STARTED, NOON_NS - 3600 * SECOND),
    ]


def test_the_same_again_within_a_minute_is_one_event_that_says_how_often() -> None:
    whole, half = a_view(on_gpu("wan", 8 * GIB)), a_view(on_gpu("wan", 3 * GIB, off_bytes=5 * GIB))
    recorder = Recorder()
    for second in range(9):
        history = recorder.record(half if second % 2 else whole, NOON_NS + second * SECOND)
    moved = [(event.kind, event.times) for event in history.events if event.kind in (EventKind.MOVED_ON, EventKind.MOVED_OFF)]
    assert moved == [(EventKind.MOVED_ON, 4), (EventKind.MOVED_OFF, 4)]
    history = recorder.record(half, NOON_NS + 600 * SECOND)
    assert (history.events[0].kind, history.events[0].times) == (EventKind.MOVED_OFF, 1)


def test_a_view_without_news_leaves_the_very_same_history() -> None:
    recorder, view = Recorder(), a_view(on_gpu("m", GIB))
    first = recorder.record(view, NOON_NS)
    assert recorder.record(view, NOON_NS + SECOND) is first


def test_events_are_bounded() -> None:
    recorder = Recorder()
    recorder.record(a_view(), NOON_NS)
    for number in range(MOST_EVENTS // 40 + 2):
        models = [on_gpu(f"m{number}-{position}", GIB) for position in range(20)]
        history = recorder.record(a_view(*models), NOON_NS + number * SECOND)
    assert len(history.events) == MOST_EVENTS
    numbers = [event.number for event in history.events]
    assert numbers == sorted(numbers, reverse=True)


def test_memory_is_sampled_every_few_seconds_by_its_highest_and_kept_for_an_hour() -> None:
    recorder = Recorder()
    used = [10, 90, 20, 30, 40, 50]
    for second, size in enumerate(used):
        history = recorder.record(a_view(used_bytes=size * GIB), NOON_NS + second * SECOND)
    start = NOON_NS // SECOND
    assert history.samples[f"gpu:{H100}"] == ((start, 10 * GIB), (start + SAMPLE_SECONDS, 90 * GIB))
    for second in range(0, 2 * 3600, 60):
        history = recorder.record(a_view(), NOON_NS + second * SECOND)
    times = [at for at, _ in history.samples[f"gpu:{H100}"]]
    assert times[-1] - times[0] <= 3600


def test_a_device_without_a_reading_keeps_its_samples_for_an_hour() -> None:
    recorder = Recorder()
    view, key = a_view(), f"gpu:{H100}"
    without = replace(view, devices=view.devices[1:])
    for second in range(0, 100, SAMPLE_SECONDS):
        recorder.record(view, NOON_NS + second * SECOND)
    for second in range(100, 200, SAMPLE_SECONDS):
        history = recorder.record(without, NOON_NS + second * SECOND)
    assert len(history.samples[key]) == 100 // SAMPLE_SECONDS + 1
    assert history.samples[key][-1] == (NOON_NS // SECOND + 100, None), "from then on it isn't known"
    history = recorder.record(without, NOON_NS + (KEPT_SECONDS + 200) * SECOND)
    assert key not in history.samples


def test_an_hour_is_drawn_in_columns_each_with_its_highest_and_gaps_filled() -> None:
    now = 36_000
    samples = [(now - 3600 + 5 * position, position) for position in range(721)]
    columns = columns_of(samples, now, 60)
    assert len(columns) == 60
    assert columns[-1] == 720
    known = [column for column in columns if column is not None]
    assert known == sorted(known)
    assert None not in columns_of([(now - 120 * position, position) for position in range(30, -1, -1)], now, 100)[1:]
    assert columns_of([], now, 3) == [None, None, None]
    assert columns_of([(now, 7)], now, 3) == [None, None, 7]


def test_an_event_is_about_a_model_by_its_key() -> None:
    (event,) = events_between(a_view(), a_view(on_gpu("m", GIB)), NOON_NS)
    assert isinstance(event, Event)
    assert event.model_key == "4711/m"
    assert (event.device, event.process) == ("0", "ComfyUI/main.py 4711")
    assert History() == History()


def test_memory_that_ran_out_names_the_models_on_that_device_whoever_holds_them() -> None:
    def view(count: int, *models: Model) -> View:
        device = replace(a_device("cuda:0", GIB, H100, reserved_bytes=70 * GIB), out_of_memory_count=count)
        elsewhere = a_process(pid=8, label="other")
        return view_of(
            [
                a_process_state(a_snapshot(*models, devices=[device]), key="one"),
                a_process_state(a_snapshot(on_gpu("other", 5 * GIB), process=elsewhere, uuids={"cuda:0": H100}), key="other"),
                a_process_state(a_snapshot(a_model("in-ram", 9 * GIB), process=a_process(pid=9)), key="host"),
            ]
        )

    before = view(0, on_gpu("wan", 40 * GIB), on_gpu("unloaded-since", GIB))
    after = view(1, on_gpu("wan", 30 * GIB), on_gpu("loading", 2 * GIB))
    event = next(event for event in events_between(before, after, NOON_NS) if event.kind is EventKind.OUT_OF_MEMORY)
    assert event.held == (("wan", 40 * GIB), ("other", 5 * GIB), ("loading", 2 * GIB), ("unloaded-since", GIB))
    assert event.process_key == "one"


def test_a_process_that_ran_out_and_died_of_it_is_told_both() -> None:
    before = a_view_after(0, 70 * GIB)
    (process,) = a_view_after(1, 70 * GIB).processes
    after = view_of([replace(process, liveness=Liveness.DEAD)])
    assert [event.kind for event in events_between(before, after, NOON_NS)] == [EventKind.OUT_OF_MEMORY, EventKind.DIED]


HOST_FAILED = OutOfMemory(NOON_NS - 5 * SECOND, "cpu", models=(("bert", GIB),))
GPU_FAILED = OutOfMemory(NOON_NS - 5 * SECOND, "cuda:0", "counter", reserved_bytes=70 * GIB)


def a_view_with_failures(*failures: OutOfMemory, count: int | None = None, state: Liveness = Liveness.LIVE) -> View:
    """A process with these failed allocations on record, whose allocator counted so many."""
    device = replace(a_device("cuda:0", GIB, H100, reserved_bytes=GIB), out_of_memory_count=count)
    snapshot = replace(a_snapshot(on_gpu("m", GIB), devices=[device]), out_of_memory=failures)
    return view_of([a_process_state(snapshot, state)])


def failed(before: View, after: View) -> list[tuple[str, int, int, tuple[tuple[str, int], ...]]]:
    """Device, bytes, how often and the models of each failure."""
    events = [event for event in events_between(before, after, NOON_NS) if event.kind is EventKind.OUT_OF_MEMORY]
    return [(event.device, event.size_bytes, event.times, event.held) for event in events]


def test_a_failure_that_no_allocator_counts_is_told_by_its_record_once() -> None:
    before, after = a_view_with_failures(), a_view_with_failures(HOST_FAILED)
    assert failed(before, after) == [("host", 0, 1, (("bert", GIB),))]
    assert failed(after, after) == []
    (event,) = (event for event in events_between(before, after, NOON_NS) if event.kind is EventKind.OUT_OF_MEMORY)
    assert is_on(event, after.devices[-1])
    somewhere = a_view_with_failures(replace(HOST_FAILED, device=None))
    assert failed(before, somewhere) == [("", 0, 1, (("bert", GIB),))]


@pytest.mark.parametrize("counted_late", [True, False])
def test_a_failure_that_is_recorded_and_counted_is_one_event(counted_late: bool) -> None:
    views = [a_view_with_failures(count=0), a_view_with_failures(GPU_FAILED, count=0 if counted_late else 1)]
    views += [a_view_with_failures(replace(GPU_FAILED, noticed_by="exception"), count=1)]
    told = [one for before, after in pairwise(views) for one in failed(before, after)]
    assert [times for _, _, times, _ in told] == [1]
    again = a_view_with_failures(GPU_FAILED, replace(GPU_FAILED, at_ns=NOON_NS), count=4)
    assert [times for _, _, times, _ in failed(views[-1], again)] == [3]


def test_a_program_that_failed_and_exited_before_the_next_view_is_told_both() -> None:
    running, gone = a_view_with_failures(), a_view_with_failures(HOST_FAILED, state=Liveness.EXITED)
    assert not gone.processes
    assert [what for what, *_ in happened(running, gone)] == ["out of memory", "exited"]
    assert [what for what, *_ in happened(view_of([]), gone)] == ["out of memory"]
    assert happened(gone, gone) == []


@pytest.mark.parametrize("state", [Liveness.LIVE, Liveness.DEAD, Liveness.EXITED])
def test_failures_from_before_the_viewer_came_are_told_with_their_times(state: Liveness) -> None:
    history = Recorder().record(a_view_with_failures(HOST_FAILED, count=3, state=state), NOON_NS)
    assert [event.at_ns for event in history.events if event.kind is EventKind.OUT_OF_MEMORY] == [HOST_FAILED.at_ns]


def test_a_process_that_ends_is_told_with_the_models_that_it_held() -> None:
    running = a_view(on_gpu("m", GIB), on_gpu("large", 3 * GIB))
    (exited,) = events_between(running, view_of([]), NOON_NS)
    assert (exited.kind, exited.held) == (EventKind.EXITED, (("large", 3 * GIB), ("m", GIB)))


def test_an_event_that_was_recorded_under_a_pending_name_gets_the_name_once_it_is_found() -> None:
    recorder = Recorder()
    recorder.record(a_view(), NOON_NS)
    pending = replace(on_gpu("WanModel", GIB), name_source="pending", confidence=0.0)
    other = replace(on_gpu("other", GIB), name_source="pending", confidence=0.0)
    before = recorder.record(a_view(pending, other), NOON_NS)
    assert [event.name for event in before.events[:2]] == ["other …", "WanModel …"]
    after = recorder.record(a_view(replace(pending, name="wan_high", name_source="values", confidence=0.97)), NOON_NS)
    assert [(event.kind.value, event.name) for event in after.events[:3]] == [
        ("unloaded", "other …"),
        ("loaded", "other …"),
        ("loaded", "wan_high"),
    ]
    assert [event.number for event in after.events[1:]] == [event.number for event in before.events]
    sure = a_view(replace(pending, name="renamed", name_source="values", confidence=0.97))
    assert recorder.record(sure, NOON_NS).events == after.events
