from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import SMALL_MODELS_ID
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.feed import FeedState, Unreadable
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.model_facts import facts_of
from gpumodels_tui.view.process_facts import facts_of_process
from gpumodels_tui.view.rows import DeviceRow, ModelRow, View
from snapshots import (
    A100,
    GIB,
    H100,
    MIB,
    MINUTE_NS,
    NOON_NS,
    WAN,
    a_catalogue,
    a_feed,
    a_gpu,
    a_model,
    a_process,
    a_process_state,
    a_snapshot,
    some_facts,
    some_hardware,
)

NOTHING = CatalogueState()
ONE_GPU = some_hardware(a_gpu())
TWO_GPUS = some_hardware(a_gpu(0, H100), a_gpu(1, A100))


def view_of(feed: FeedState, hardware: HardwareState = ONE_GPU, catalogue: CatalogueState = NOTHING) -> View:
    return build_view(feed, hardware, catalogue)


def names(device: DeviceRow) -> list[str]:
    return [row.name for row in device.models]


def test_a_gpu_and_host_memory_list_what_they_hold_largest_first() -> None:
    snapshot = a_snapshot(
        a_model("vae", 300 * MIB, "vae", device="cuda:0"),
        a_model("wan", 20 * GIB, device="cuda:0"),
        a_model("lora", 100 * MIB, "lora", device="cuda:0"),
        a_model("text encoder", 9 * GIB, "clip", device="cpu"),
    )
    gpu, host = view_of(a_feed(snapshot)).devices
    assert names(gpu) == ["wan", "vae", "lora"]
    assert names(host) == ["text encoder"]
    assert (gpu.number, gpu.title, gpu.used_bytes, gpu.total_bytes) == (1, "GPU 0  NVIDIA H100 80GB HBM3", 20 * GIB, 80 * GIB)
    assert (host.number, host.title, host.used_bytes, host.total_bytes) == (2, "Host memory", 64 * GIB, 256 * GIB)


def test_a_swapped_model_is_on_both_with_its_split() -> None:
    gpu, host = view_of(a_feed(a_snapshot(a_model(WAN, 2 * GIB, device="cuda:0", off_bytes=3 * GIB)))).devices
    (on,), (off,) = gpu.models, host.models
    assert (on.on_bytes, on.off_bytes, on.note) == (2 * GIB, 3 * GIB, "")
    assert (off.on_bytes, off.off_bytes, off.note) == (3 * GIB, 0, "offloaded from GPU 0")


def test_a_model_that_was_offloaded_whole_stays_in_the_list_of_its_gpu() -> None:
    gpu, _ = view_of(a_feed(a_snapshot(a_model(WAN, 0, device="cuda:0", off_bytes=5 * GIB)))).devices
    (row,) = gpu.models
    assert (row.on_bytes, row.off_bytes) == (0, 5 * GIB)


def test_what_is_in_no_memory_at_all_counts_as_off() -> None:
    model = a_model(bytes_by_device={"cuda:0": GIB, "cpu": 2 * GIB}, device="cuda:0", off_bytes=5 * GIB)
    gpu, host = view_of(a_feed(a_snapshot(model))).devices
    assert gpu.models[0].off_bytes == 5 * GIB
    assert host.models[0].off_bytes == 3 * GIB


def test_a_sharded_model_shows_its_part_on_each_gpu() -> None:
    model = a_model(bytes_by_device={"cuda:0": 30 * GIB, "cuda:1": 28 * GIB}, device="cuda:0")
    first, second, _ = view_of(a_feed(a_snapshot(model)), TWO_GPUS).devices
    assert [(row.on_bytes, row.note) for row in (*first.models, *second.models)] == [
        (30 * GIB, "also on GPU 1"),
        (28 * GIB, "also on GPU 0"),
    ]


def test_the_small_ones_come_last_and_only_where_they_are() -> None:
    small = a_model("3 small modules", id=SMALL_MODELS_ID, bytes_by_device={"cuda:0": 3 * MIB})
    gpu, host = view_of(a_feed(a_snapshot(a_model("tiny", MIB, device="cuda:0"), small))).devices
    assert names(gpu) == ["tiny", "3 small modules"]
    assert names(host) == []


def test_equals_are_ordered_by_what_is_offloaded_and_then_by_name() -> None:
    models = [
        a_model("b", GIB, device="cuda:0"),
        a_model("a", GIB, device="cuda:0"),
        a_model("c", GIB, device="cuda:0", off_bytes=GIB),
    ]
    gpu, _ = view_of(a_feed(a_snapshot(*models))).devices
    assert names(gpu) == ["c", "a", "b"]


def test_what_was_loaded_before_the_sidecar_came_says_so() -> None:
    process = replace(a_process(), attached_at_ns=NOON_NS - MINUTE_NS)
    models = [a_model("early", 2 * GIB), a_model("late", GIB, loaded_at_ns=NOON_NS)]
    snapshot = a_snapshot(*models, process=process)
    view = view_of(a_feed(snapshot))
    assert [(row.name, row.note) for device in view.devices for row in device.models] == [
        ("early", "loaded before attaching"),
        ("late", ""),
    ]
    facts = {fact.label: fact.value for fact in facts_of(view.devices[-1].models[0])}
    assert "loaded before attaching" in facts["process"]


def test_the_dead_are_noted_below_the_living_and_the_exited_are_gone() -> None:
    living = a_process_state(a_snapshot(a_model("alive", GIB), process=a_process(pid=1)))
    stalled = a_process_state(a_snapshot(a_model("stalled", 2 * GIB), process=a_process(pid=2)), Liveness.STALLED)
    dead = a_process_state(a_snapshot(a_model("dead", 9 * GIB), process=a_process(pid=3)), Liveness.DEAD)
    exited = a_process_state(a_snapshot(a_model("gone", 9 * GIB), process=a_process(pid=4)), Liveness.EXITED)
    view = view_of(a_feed(living, stalled, dead, exited))
    host = view.devices[-1]
    assert [(row.name, row.note) for row in host.models] == [("stalled", "stalled"), ("alive", ""), ("dead", "dead")]
    assert [process.pid for process in view.processes] == [1, 2, 3]


def test_a_model_whose_pages_are_all_on_disk_keeps_its_row_and_its_dtype() -> None:
    model = replace(a_model("wan", bytes_by_device={}, device="cuda:0", dtypes={"bfloat16": GIB}), offloaded_bytes=GIB)
    snapshot = a_snapshot(replace(model, dynamic_memory=True), replace(model, id="other", name="other"), uuids={"cuda:0": H100})
    gpu, *_ = view_of(a_feed(snapshot)).devices
    assert [(row.name, row.on_bytes, row.off_bytes, row.dtype) for row in gpu.models] == [
        ("other", 0, GIB, ""),
        ("wan", 0, GIB, "bfloat16"),
    ]


def test_a_process_that_is_merely_late_shows_how_old_its_snapshot_is() -> None:
    """Up to 0.1.0 `(stalled)` stood there after three seconds, for a process on a loaded machine."""
    late = replace(a_process_state(a_snapshot(a_model())), late_seconds=7.0)
    (row,) = view_of(a_feed(late)).devices[-1].models
    assert row.note == "7s old"
    (row,) = view_of(a_feed(replace(late, late_since_first_seen=True))).devices[-1].models
    assert row.note == ">7s old"
    (process,) = view_of(a_feed(late)).process_rows
    sidecar = next(fact.value for fact in facts_of_process(process, 0) if fact.label == "sidecar")
    assert sidecar.startswith("live, 7s old, no failures")


def test_the_main_dtype_is_marked_where_there_are_others() -> None:
    mixed = a_model("mixed", GIB, dtypes={"float8_e4m3fn": GIB - MIB, "float32": MIB})
    plain = a_model("plain", 2 * GIB)
    absent = a_model("absent", 0, dtypes={})
    host = view_of(a_feed(a_snapshot(mixed, plain, absent))).devices[-1]
    assert {row.name: row.dtype for row in host.models} == {"mixed": "float8_e4m3fn+", "plain": "bfloat16", "absent": ""}


def test_rows_say_their_process_and_what_their_files_say() -> None:
    model = a_model(files=["/models/wan.safetensors"])
    catalogue = a_catalogue(some_facts("/models/wan.safetensors", {"modelspec.author": "Ada"}))
    (row,) = view_of(a_feed(a_snapshot(model)), catalogue=catalogue).devices[-1].models
    assert row.process == "ComfyUI/main.py 4711"
    assert row.facts["author"] == "Ada"
    assert row.metadata == {"modelspec.author": "Ada"}


def test_two_processes_with_models_of_one_id_have_two_keys() -> None:
    first, second = (a_snapshot(a_model(id="m1"), process=a_process(pid=pid)) for pid in (1, 2))
    keys = [row.key for row in view_of(a_feed(first, second)).devices[-1].models]
    assert len(set(keys)) == 2


def test_warnings_name_what_they_are_about() -> None:
    snapshot = a_snapshot(warnings=["no safetensors"])
    damaged = a_process_state(a_snapshot(process=a_process(pid=2)), problem="torn payload (crc)")
    unreadable = [
        Unreadable(Path("/d/1-1-x.gpm"), "empty file"),
        Unreadable(Path("/d"), "/d is a symlink; name the directory itself"),
    ]
    view = view_of(
        a_feed(snapshot, damaged, unreadable=unreadable),
        some_hardware(problems=["NVML: Driver Not Loaded"]),
        a_catalogue(warnings=["/models/x.safetensors: truncated"]),
    )
    assert view.warnings == (
        "/d/1-1-x.gpm: empty file",
        "/d is a symlink; name the directory itself",
        "NVML: Driver Not Loaded",
        "ComfyUI/main.py 4711: no safetensors",
        "ComfyUI/main.py 2: its newest snapshot can't be read: torn payload (crc)",
        "/models/x.safetensors: truncated",
    )


def test_nothing_hostile_reaches_what_is_drawn() -> None:
    evil = "\x1b]0;owned\x07[red]\u202e"
    snapshot = a_snapshot(
        a_model(evil, kind=evil, dtypes={evil: GIB}, device=f"cuda:0{evil}"),
        process=a_process(label=evil),
        warnings=[evil],
    )
    view = view_of(a_feed(snapshot, unreadable=[Unreadable(Path(f"/{evil}"), "empty file")]))
    drawn = [*view.warnings, *(device.title for device in view.devices)]
    for device in view.devices:
        for row in device.models:
            drawn += [row.name, row.kind, row.dtype, row.process, row.note, *row.facts.values()]
    assert not [text for text in drawn if {"\x1b", "\x07", "\u202e"} & set(text)]


def test_equal_input_gives_an_equal_view() -> None:
    def feed() -> FeedState:
        return a_feed(a_snapshot(a_model()))

    assert view_of(feed()) == view_of(feed())


def test_models_that_share_memory_say_with_which() -> None:
    counted = replace(a_model("base", GIB, id="base"), shares_with=("second",))
    sharing = replace(a_model("second", MIB, id="second"), shares_with=("base",), shared_bytes=GIB)
    view = build_view(a_feed(a_process_state(a_snapshot(counted, sharing))), some_hardware(), CatalogueState())
    told = {row.name: fact.value for row in view.devices[-1].models for fact in facts_of(row) if fact.label == "memory"}
    assert told["base"] == "1.0 GB in host memory, some of it shared with second"
    assert told["second"] == "1.0 MB in host memory, 1.0 GB more shared with base, counted there"


def test_devices_are_called_what_the_lists_call_them_whatever_their_process_calls_them() -> None:
    model = a_model(bytes_by_device={"cuda:0": 30 * GIB, "cpu": 2 * GIB}, device="cuda:0", off_bytes=2 * GIB)
    process = a_process(visible_devices="1")
    _, gpu, host = view_of(a_feed(a_snapshot(model, process=process)), TWO_GPUS).devices
    (on,), (off,) = gpu.models, host.models
    assert gpu.label == "1"
    assert off.note == "offloaded from GPU 1"
    assert dict(on.device_labels) == {"cuda:0": "1", "cpu": "host"}
    assert told_of(on, "memory") == ["30.0 GB on GPU 1, 2.0 GB in host memory"]


def test_a_gpu_keeps_its_index_where_another_is_lost() -> None:
    model = a_model(device="cuda:1")
    (gpu, _) = view_of(a_feed(a_snapshot(model)), some_hardware(a_gpu(1))).devices
    assert (gpu.number, gpu.label) == (1, "1")


def test_files_are_told_with_their_sizes() -> None:
    one = some_facts("/models/one.safetensors", dtypes={"bfloat16": 2 * GIB})
    other = some_facts("/models/other.safetensors", dtypes={"bfloat16": GIB})
    sharded = a_model("sharded", files=["/models/one.safetensors", "/models/other.safetensors"])
    unread = a_model("unread", files=["/models/one.safetensors", "/elsewhere/unread.safetensors"])
    torn = replace(
        a_model("torn", candidates=["/models/one.safetensors", "/models/never.safetensors"]), confidence=0.3, name_source="class"
    )
    single = a_model("single", files=["/models/one.safetensors"])
    view = view_of(a_feed(a_snapshot(single, sharded, unread, torn)), catalogue=a_catalogue(one, other))
    rows = {row.model.id: row for row in view.devices[-1].models}
    assert told_of(rows["single"], "file") == ["/models/one.safetensors  2.0 GB"]
    assert told_of(rows["sharded"], "file") == ["2 files, 3.0 GB in /models"]
    assert told_of(rows["sharded"], "files") == ["/models/one.safetensors  2.0 GB", "/models/other.safetensors  1.0 GB"]
    assert told_of(rows["unread"], "file") == ["2 files"]
    assert told_of(rows["torn"], "could be") == ["/models/one.safetensors  2.0 GB", "/models/never.safetensors"]


def told_of(row: ModelRow, label: str) -> list[str]:
    """The facts under this label, and under the blank labels below it."""
    told: list[str] = []
    current = ""
    for fact in facts_of(row):
        current = fact.label or current
        if current == label:
            told.append(fact.value)
    return told
