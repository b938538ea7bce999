"""What each filter leaves, which is the same on the screens and in every output."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import Job, ProcessInfo
from gpumodels_tui import csv_output, json_output
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.oneshot import Snapshots, table
from gpumodels_tui.service.metric_families import Choices, ModelMetrics
from gpumodels_tui.service.observed import Observed
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.filtering import filtered
from gpumodels_tui.view.filters import NO_FILTERS, Filters
from snapshots import (
    A100,
    GIB,
    H100,
    MIB,
    NOON_NS,
    WAN,
    a_feed,
    a_gpu,
    a_model,
    a_process,
    a_process_state,
    a_snapshot,
    some_hardware,
)


def of_job(process: ProcessInfo, job: Job) -> ProcessInfo:
    return replace(process, job=job)


SLURM: Final = Job(id="slurm 42", launcher="slurm", slurm_job="42", slurm_step="0")
POD: Final = Job(id="pod 6f2", launcher="kubernetes", namespace="training", pod="Trainer-0", container_id="0123456789ab")

FEED: Final = a_feed(
    a_process_state(
        a_snapshot(
            a_model(WAN, 2 * GIB, device="cuda:0"),
            a_model("MyLoRA", 128 * MIB, "lora", device="cuda:0"),
            a_model("umt5", 4 * GIB, "clip", device="cuda:0", off_bytes=GIB, bytes_by_device={"cpu": 4 * GIB}),
            process=of_job(a_process("ComfyUI/main.py", 100), SLURM),
            uuids={"cuda:0": H100},
        )
    ),
    a_process_state(
        a_snapshot(
            a_model("Qwen3-8B", 16 * GIB, "llm", device="cuda:0"),
            process=of_job(a_process("vllm", 4100, command=("vllm", "serve", "/models/Qwen")), POD),
            uuids={"cuda:0": A100},
        ),
        user="eve",
    ),
    a_process_state(a_snapshot(a_model("bge-m3", 600 * MIB, "embedding"), process=a_process("search", 7))),
)
HARDWARE: Final = some_hardware(
    a_gpu(0, H100, "NVIDIA H100 80GB HBM3", processes={100: 3 * GIB, 555: GIB}),
    a_gpu(1, A100, "NVIDIA A100", processes={4100: None}),
)
SEEN: Final = Snapshots(FEED, HARDWARE, CatalogueState(), NOON_NS)
VIEW: Final = build_view(FEED, HARDWARE, CatalogueState())
COMFY: Final = {WAN, "MyLoRA", "umt5"}
ALL: Final = {*COMFY, "Qwen3-8B", "bge-m3"}

CASES: Final[list[tuple[Filters, set[str]]]] = [
    (NO_FILTERS, ALL),
    (Filters(gpus=("0",)), COMFY),
    (Filters(gpus=("1",)), {"Qwen3-8B"}),
    (Filters(gpus=("0", "1")), {*COMFY, "Qwen3-8B"}),
    (Filters(gpus=("host",)), {"umt5", "bge-m3"}),
    (Filters(gpus=("CPU",)), {"umt5", "bge-m3"}),
    (Filters(gpus=("a100",)), {"Qwen3-8B"}),
    (Filters(gpus=(A100,)), {"Qwen3-8B"}),
    (Filters(gpus=("aaaaaaaa-bb",)), {"Qwen3-8B"}),
    (Filters(gpus=("7",)), set()),
    (Filters(gpus=("cuda:0",)), set()),
    (Filters(processes=("100",)), COMFY),
    (Filters(processes=("10",)), set()),
    (Filters(processes=("comfyui",)), COMFY),
    (Filters(processes=("SERVE /models",)), {"Qwen3-8B"}),
    (Filters(processes=("7", "vllm")), {"bge-m3", "Qwen3-8B"}),
    (Filters(users=("eve",)), {"Qwen3-8B"}),
    (Filters(users=("ev",)), set()),
    (Filters(jobs=("42",)), COMFY),
    (Filters(jobs=("4",)), set()),
    (Filters(jobs=("42.0",)), COMFY),
    (Filters(jobs=("Slurm 42",)), COMFY),
    (Filters(jobs=("trainer",)), {"Qwen3-8B"}),
    (Filters(jobs=("training/trainer-0",)), {"Qwen3-8B"}),
    (Filters(jobs=("training",)), {"Qwen3-8B"}),
    (Filters(jobs=("0123456789abcdef",)), set()),
    (Filters(jobs=("0123456789ab",)), {"Qwen3-8B"}),
    (Filters(kinds=("lora", "llm")), {"MyLoRA", "Qwen3-8B"}),
    (Filters(min_bytes=2 * GIB), {WAN, "umt5", "Qwen3-8B"}),
    (Filters(min_bytes=2 * GIB + 1), {"umt5", "Qwen3-8B"}),
    (Filters(names=("wan2",)), {WAN}),
    (Filters(names=("lora", "BGE")), {"MyLoRA", "bge-m3"}),
    (Filters(users=("ada",), kinds=("lora", "llm")), {"MyLoRA"}),
    (Filters(gpus=("0",), names=("bge",)), set()),
]


def by_words(value: Any) -> str | None:
    return value.in_words() or "none" if isinstance(value, Filters) else "…"


@pytest.mark.parametrize(("filters", "names"), CASES, ids=by_words)
def test_every_output_shows_the_same_models(filters: Filters, names: set[str]) -> None:
    view = filtered(VIEW, filters)
    assert {row.model.name for device in view.devices for row in device.models} == names
    printed = table(view, NOON_NS)
    assert {name for name in ALL if f"{name} (" in printed} == names
    rows = list(csv.DictReader(io.StringIO(csv_output.text(view, NOON_NS))))
    assert {row["model"] for row in rows} == names
    document = json.loads(json_output.text(SEEN, filters))
    assert {model["name"] for process in document["processes"] for model in process["models"]} == names
    assert {process["pid"] for process in document["processes"]} == {process.pid for process in view.processes}
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ModelMetrics(lambda: Observed(SEEN, VIEW), "1", Choices(filters)))
    families = {family.name: family for family in text_string_to_metric_families(generate_latest(registry).decode())}
    assert {one.labels["model"] for one in families["gpumodels_model_info"].samples} == names
    assert families["gpumodels_models"].samples[0].value == len(names)
    devices = {one.labels["device"] for one in families["gpumodels_device_total_bytes"].samples}
    assert devices == {device.label for device in view.devices}


def test_filters_in_words() -> None:
    filters = Filters(("0", "1"), ("main.py",), ("ada",), ("42",), ("lora",), GIB, ("a\x1b",))
    assert filters.in_words() == "GPU 0 or 1, process main.py, user ada, job 42, kind lora, name a\\x1b, at least 1.0 GB"
    assert NO_FILTERS.in_words() == ""
    assert filters.has_any
    assert not NO_FILTERS.has_any


def test_without_a_driver_gpu_0_is_what_processes_call_cuda_0_and_a_gpu_means_its_slices() -> None:
    devices = [("p:cuda:0", "cuda:0", "cuda:0"), ("p:cuda:10", "cuda:10", "cuda:10"), ("host", "host", "Host memory")]
    assert Filters(gpus=("0",)).devices(devices) == frozenset({"p:cuda:0"})
    assert Filters(gpus=("cuda:0",)).devices(devices) == frozenset({"p:cuda:0"})
    assert Filters(gpus=("memory",)).devices(devices) == frozenset()
    slices = [("gpu:a", "0", "GPU 0"), ("gpu:b", "0.1", "GPU 0.1"), ("gpu:c", "01", "GPU 01"), ("p:cuda:0", "cuda:0", "cuda:0")]
    assert Filters(gpus=("0",)).devices(slices) == frozenset({"gpu:a", "gpu:b"})
    assert Filters(gpus=("0.1",)).devices(slices) == frozenset({"gpu:b"})


def test_processes_without_a_sidecar_are_filtered_by_user_and_pid_and_have_no_models() -> None:
    def shown(filters: Filters) -> list[int | None]:
        view = filtered(VIEW, filters)
        rows = [row.pid for row in view.process_rows if row.state is None]
        assert rows == [row.pid for device in view.devices for row in device.unattached]
        return rows

    assert shown(NO_FILTERS) == [555]
    assert shown(Filters(processes=("555",))) == [555]
    assert shown(Filters(gpus=("1",))) == []
    assert shown(Filters(kinds=("lora",))) == shown(Filters(jobs=("42",))) == shown(Filters(users=("ada",))) == []


def test_a_process_without_models_is_left_out_only_if_models_are_chosen() -> None:
    feed = a_feed(a_process_state(a_snapshot()), a_process_state(None, Liveness.LIVE, pid=2))
    seen = Snapshots(feed, some_hardware(), CatalogueState(), NOON_NS)
    assert len(json_output.document(seen, Filters(users=("ada",)))["processes"]) == 2  # type: ignore[arg-type]
    assert json_output.document(seen, Filters(min_bytes=1))["processes"] == []


def test_a_devices_figures_stay_those_of_the_whole_device() -> None:
    view = filtered(VIEW, Filters(kinds=("lora",)))
    assert [(device.used_bytes, device.parts) for device in view.devices] == [
        (device.used_bytes, device.parts) for device in VIEW.devices
    ]
    (process,) = json.loads(json_output.text(SEEN, Filters(kinds=("lora",))))["processes"]
    assert process["devices"][0]["models_bytes"] > 128 * MIB
