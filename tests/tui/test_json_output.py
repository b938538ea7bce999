from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import DeviceMemory, Fingerprint, Job, Stage, TensorSample
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.json_output import text
from gpumodels_tui.oneshot import Snapshots
from gpumodels_tui.sources.feed import FeedState, ProcessState
from gpumodels_tui.sources.gpu_reading import GpuReading
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.view.filters import Filters
from snapshots import (
    GIB,
    H100,
    MINUTE_NS,
    NOON_NS,
    WAN,
    a_catalogue,
    a_device,
    a_feed,
    a_gpu,
    a_model,
    a_process,
    a_process_state,
    a_snapshot,
    some_facts,
    some_hardware,
)

GPU_KEYS = [
    *["index", "uuid", "name", "total_bytes", "used_bytes", "utilization_percent", "temperature_celsius", "power_watts"],
    *["parent", "lost", "shares_host_memory"],
]
DEVICE_KEYS = [
    *["device", "uuid", "allocated_bytes", "reserved_bytes", "models_bytes"],
    *["gradients_bytes", "optimizer_bytes", "cache_bytes", "other_bytes", "held_by_functions"],
    *["outside_torch_bytes", "asleep_bytes"],
]
PROCESS_KEYS = [
    *["pid", "label", "user", "state", "started_at", "snapshot_at", "job", "container", "devices", "models"],
    *["model_manager", "stage", "stages", "out_of_memory", "hints"],
]
MODEL_KEYS = [
    *[
        "id",
        "name",
        "kind",
        "class",
        "display",
        "bytes_by_device",
        "offloaded_bytes",
        "layers",
        "parameters",
        "dtypes",
        "precision",
    ],
    *["loaded_at", "files", "name_source", "confidence", "candidates", "metadata", "parent", "adapters", "slot"],
    *[
        "leftover_of",
        "pinned_bytes",
        "asleep_bytes",
        "asleep_in",
        "imported_bytes",
        "dynamic_memory",
        "managed_by",
        "managed_bytes",
    ],
    *["last_used_at", "last_used_by"],
    *["copies_by_device", "same_file_as", "hints"],
]


def test_models_from_the_same_files_are_counted_and_named() -> None:
    one = replace(a_model("wan"), id="m1", files=("/models/wan.safetensors",), confidence=0.97, file_stamps=((7, 1),))
    models = (
        one,
        replace(one, id="m2"),
        replace(one, id="m3", files=("/models/other.safetensors",)),
        replace(one, id="m4", files=()),
    )
    (process,) = document_of(a_feed(a_snapshot(*models)))["processes"]
    said = {shown["id"]: (shown["copies_by_device"], shown["same_file_as"]) for shown in process["models"]}
    twice = dict.fromkeys(one.bytes_by_device, 2)
    assert (said["m1"], said["m2"]) == ((twice, ["m2"]), (twice, ["m1"]))
    assert (said["m3"], said["m4"]) == ((dict.fromkeys(twice, 1), []), (None, []))


def test_of_another_users_copies_nothing_is_told() -> None:
    one = replace(a_model("wan"), id="m1", files=("/models/wan.safetensors",), confidence=0.97, file_stamps=((7, 1),))
    feed = a_feed(a_process_state(a_snapshot(one), user="ada"), a_process_state(a_snapshot(one), pid=7, user="bob"))
    glance = Snapshots(feed, some_hardware(a_gpu()), CatalogueState(), NOON_NS)
    counts = {}
    for users in ((), ("ada",)):
        processes = json.loads(text(glance, Filters(users=users)))["processes"]
        counts[users] = [set(shown["copies_by_device"].values()) for process in processes for shown in process["models"]]
    assert counts == {(): [{2}, {2}], ("ada",): [{1}]}


def test_the_document_for_people_is_the_same_in_lines() -> None:
    glance = Snapshots(a_feed(a_snapshot(a_model("\x7f名", GIB))), some_hardware(a_gpu()), CatalogueState(), NOON_NS)
    pretty = text(glance, is_pretty=True)
    assert json.loads(pretty) == json.loads(text(glance))
    assert pretty.startswith('{\n  "schema": 1,\n')
    assert pretty.isascii()
    assert "\x7f" not in pretty
    assert text(glance).count("\n") == 1


def document_of(
    feed: FeedState, hardware: HardwareState | None = None, catalogue: CatalogueState | None = None
) -> dict[str, Any]:
    written = text(Snapshots(feed, hardware or some_hardware(a_gpu()), catalogue or CatalogueState(), NOON_NS))
    assert written.isascii()
    assert written.count("\n") == 1
    parsed = json.loads(written)
    assert isinstance(parsed, dict)
    return parsed


def test_the_document_has_every_key_with_sizes_in_bytes_and_times_in_utc() -> None:
    model = a_model(WAN, 2 * GIB, device="cuda:0", off_bytes=GIB, files=["/models/wan.safetensors"], slot="unet")
    catalogue = a_catalogue(some_facts("/models/wan.safetensors", {"model_type": WAN}))
    found = document_of(a_feed(a_snapshot(model)), catalogue=catalogue)
    assert list(found) == ["schema", "taken_at", "host", "gpus", "processes", "unattached", "warnings"]
    assert (found["schema"], found["taken_at"], found["warnings"]) == (1, "2026-05-28T20:26:40.000Z", [])
    (gpu,) = found["gpus"]
    assert list(gpu) == GPU_KEYS
    assert gpu == dict(
        zip(GPU_KEYS, [0, H100, "NVIDIA H100 80GB HBM3", 80 * GIB, 20 * GIB, 87, 64, 412.5, None, False, False], strict=True)
    )
    (process,) = found["processes"]
    assert list(process) == PROCESS_KEYS
    assert (process["pid"], process["label"], process["user"], process["state"]) == (4711, "ComfyUI/main.py", "ada", "live")
    assert (process["started_at"], process["snapshot_at"]) == ("2026-05-28T19:26:40.000Z", "2026-05-28T20:26:40.000Z")
    assert [list(device) for device in process["devices"]] == [DEVICE_KEYS, DEVICE_KEYS]
    assert {device["device"]: device["models_bytes"] for device in process["devices"]} == {"cpu": GIB, "cuda:0": 2 * GIB}
    (shown,) = process["models"]
    assert list(shown) == MODEL_KEYS
    assert shown["display"] == f"{WAN} (checkpoint, 3.0 GB, 145 layers)"
    assert shown["bytes_by_device"] == {"cuda:0": 2 * GIB, "cpu": GIB}
    assert (shown["offloaded_bytes"], shown["class"], shown["slot"], shown["parent"]) == (GIB, "WanModel", "unet", None)
    assert (shown["loaded_at"], shown["metadata"]) == ("2026-05-28T20:24:40.000Z", {"model_type": WAN})


def test_since_when_a_model_has_not_run_is_told_while_its_process_lives() -> None:
    model = replace(a_model(WAN), last_used_ns=NOON_NS, last_used_by="process")
    for liveness, told in ((Liveness.LIVE, ("2026-05-28T20:26:40.000Z", "process")), (Liveness.STALLED, (None, None))):
        found = document_of(a_feed(a_process_state(a_snapshot(model), liveness=liveness)))
        (shown,) = found["processes"][0]["models"]
        assert (shown["last_used_at"], shown["last_used_by"]) == told


def test_what_is_unknown_is_null() -> None:
    found = document_of(a_feed(a_process_state(None)), some_hardware(GpuReading(0, H100, "NVIDIA GB10")))
    assert list(found["gpus"][0].values()) == [0, H100, "NVIDIA GB10", None, None, None, None, None, None, False, False]
    (process,) = found["processes"]
    assert list(process) == PROCESS_KEYS
    assert [process[key] for key in ("label", "started_at", "snapshot_at", "devices", "models")] == [None, None, None, [], []]


def test_stages_and_the_model_manager_are_told() -> None:
    ended = Stage("4", "UNETLoader", NOON_NS - MINUTE_NS, NOON_NS, "cuda:0", GIB, 3 * GIB, None, ("/models/wan.safetensors",))
    running = Stage("7", "KSampler", NOON_NS)
    model = replace(a_model(), managed_by="ComfyUI", managed_bytes=GIB)
    snapshot = replace(a_snapshot(model), stages=(ended, running), model_manager="ComfyUI")
    (process,) = document_of(a_feed(snapshot))["processes"]
    assert process["model_manager"] == "ComfyUI"
    assert process["stage"] == {"id": "7", "name": "KSampler", "since": "2026-05-28T20:26:40.000Z"}
    assert process["stages"][0] == {
        "id": "4", "name": "UNETLoader", "started_at": "2026-05-28T20:25:40.000Z", "ended_at": "2026-05-28T20:26:40.000Z",
        "device": "cuda:0", "bytes_before": GIB, "bytes_after": 3 * GIB, "peak_bytes": None, "files": ["/models/wan.safetensors"],
    }  # fmt: skip
    assert [process["stages"][1][key] for key in ("ended_at", "device", "bytes_before")] == [None, None, None]
    assert [(shown["managed_by"], shown["managed_bytes"]) for shown in process["models"]] == [("ComfyUI", GIB)]


def test_the_job_is_told_with_its_ranks_and_how_unequal_they_are() -> None:
    job = Job("node1:29500", "torchrun", 0, 8, "4242", "0", "ann", "training", "trainer-0", "0123456789ab")

    def of_rank(rank: int, size: int, liveness: Liveness = Liveness.LIVE, **more: Any) -> ProcessState:
        process = a_process(pid=100 + rank, rank=rank, job=replace(job, local_rank=rank, **more))
        held = a_snapshot(a_model(WAN, size), process=process, devices=[a_device("cuda:0", size, allocated_bytes=size)])
        return a_process_state(held, liveness, key=f"{rank}{liveness}{more}", pid=100 + rank)

    dead, other = of_rank(1, 9 * GIB, Liveness.DEAD), of_rank(1, GIB, id="node1:29501")
    found = document_of(a_feed(of_rank(1, 5 * GIB), of_rank(0, 4 * GIB), dead, other, a_process_state(a_snapshot())))["processes"]
    first, second, ended, lone, none = (process["job"] for process in found)
    ranks = [{"rank": rank, "pid": 100 + rank, "allocated_bytes": size * GIB} for rank, size in ((0, 4), (1, 5))]
    assert second == {
        "launcher": "torchrun", "id": "node1:29500", "rank": 0, "local_rank": 0, "world_size": 8, "slurm_job": "4242",
        "slurm_step": "0", "user": "ann", "namespace": "training", "pod": "trainer-0", "ranks": ranks, "imbalance": 0.25,
    }  # fmt: skip
    assert first == second | {"rank": 1, "local_rank": 1}
    assert (ended["ranks"], ended["imbalance"]) == ([], None)
    assert ([rank["rank"] for rank in lone["ranks"]], lone["imbalance"]) == ([1], None)
    assert (none, [process["container"] for process in found]) == (None, [*["0123456789ab"] * 4, None])


def test_gpus_are_what_the_driver_or_a_simulation_says_and_each_only_once() -> None:
    simulated = a_device("cuda:1", GIB, "GPU-sim", name="H100 (simulated)", simulated=True, total_bytes=80 * GIB)
    unclear = a_device("cuda:0", GIB)
    joined = a_device("cuda:2", GIB, H100)
    found = document_of(
        a_feed(a_process_state(a_snapshot(devices=[simulated, unclear, joined]), is_local=False)),
        some_hardware(a_gpu(), a_gpu(1, "GPU-other")),
    )
    assert [(gpu["index"], gpu["uuid"]) for gpu in found["gpus"]] == [(0, H100), (1, "GPU-other"), (1, "GPU-sim")]
    assert [device["device"] for device in found["processes"][0]["devices"]] == ["cuda:1", "cuda:0", "cuda:2"]


def test_devices_that_only_exited_processes_report_are_no_gpus_any_more() -> None:
    def simulating(liveness: Liveness) -> ProcessState:
        device = a_device("cuda:0", GIB, name="H100 (simulated)", simulated=True, total_bytes=80 * GIB)
        return a_process_state(a_snapshot(devices=[device]), liveness, key=liveness.value)

    live, exited = simulating(Liveness.LIVE), simulating(Liveness.EXITED)
    found = document_of(a_feed(live, exited), some_hardware())
    assert len(found["gpus"]) == 1
    assert [process["state"] for process in found["processes"]] == ["live", "exited"]
    assert document_of(a_feed(exited), some_hardware())["gpus"] == []


def test_all_states_are_there_also_the_exited() -> None:
    states = [a_process_state(a_snapshot(), liveness, key=liveness.value) for liveness in Liveness]
    found = document_of(a_feed(*states))
    assert [process["state"] for process in found["processes"]] == ["live", "stalled", "exited", "dead"]


def test_names_come_as_they_are_and_escaped_so_that_no_terminal_is_steered() -> None:
    evil = "\x1b]0;owned\x07\x7f\u202e"
    written = text(Snapshots(a_feed(a_snapshot(a_model(evil))), HardwareState(), CatalogueState(), NOON_NS))
    assert written.rstrip("\n").isprintable()
    (model,) = json.loads(written)["processes"][0]["models"]
    assert model["name"] == evil
    assert model["display"].isprintable()


def test_a_name_from_the_files_own_words_says_so() -> None:
    model = a_model("WanModel", GIB, confidence=0.5, name_source="class", files=["/m/model.safetensors"])
    catalogue = a_catalogue(some_facts("/m/model.safetensors", {"model_type": WAN}, {"bfloat16": GIB}))
    (shown,) = document_of(a_feed(a_snapshot(model)), catalogue=catalogue)["processes"][0]["models"]
    assert (shown["name"], shown["name_source"], shown["confidence"]) == (WAN, "file metadata", 0.9)


def test_a_model_whose_values_are_still_compared_is_pending_under_its_classes_name() -> None:
    fingerprint = Fingerprint((TensorSample("w", "bfloat16", (4, 4), bytes(32)),), NOON_NS)
    model = replace(a_model("WanModel", GIB, confidence=0.0, name_source="class"), fingerprint=fingerprint)
    catalogue = CatalogueState(unsettled=frozenset((fingerprint,)))
    (shown,) = document_of(a_feed(a_snapshot(model)), catalogue=catalogue)["processes"][0]["models"]
    assert (shown["name"], shown["name_source"], shown["confidence"]) == ("WanModel", "pending", 0.0)
    assert shown["display"].startswith("WanModel … (")


def test_a_time_that_is_none_is_null() -> None:
    (model,) = document_of(a_feed(a_snapshot(a_model(loaded_at_ns=2**63 - 1))))["processes"][0]["models"]
    assert model["loaded_at"] is not None
    (model,) = document_of(a_feed(a_snapshot(a_model(loaded_at_ns=-5))))["processes"][0]["models"]
    assert model["loaded_at"] is None


def test_what_the_driver_counts_outside_torch_and_what_sleeps_is_told() -> None:
    memory = DeviceMemory("cuda:0", 0, uuid=H100, allocated_bytes=GIB, reserved_bytes=2 * GIB, asleep_bytes=13 * GIB)
    model = replace(a_model("qwen", device="cuda:0"), asleep_bytes=GIB, asleep_in="host")
    process = a_process_state(a_snapshot(model, devices=[memory]))
    hardware = some_hardware(a_gpu(0, H100, processes={4711: 5 * GIB}))
    (found,) = document_of(a_feed(process), hardware)["processes"]
    assert (found["devices"][0]["outside_torch_bytes"], found["devices"][0]["asleep_bytes"]) == (3 * GIB, 13 * GIB)
    assert (found["models"][0]["asleep_bytes"], found["models"][0]["asleep_in"]) == (GIB, "host")
    (found,) = document_of(a_feed(process), some_hardware())["processes"]
    assert found["devices"][0]["outside_torch_bytes"] is None
