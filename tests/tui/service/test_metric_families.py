"""The metrics as Prometheus's own parser reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from dataclasses import replace as replaced
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gpumodels_shared.liveness import Liveness
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.oneshot import Snapshots
from gpumodels_tui.outside.facts import KnownBy, OutsideFacts, OutsideModel
from gpumodels_tui.service.metric_families import Choices, ModelMetrics
from gpumodels_tui.service.observed import Observed
from gpumodels_tui.sources.feed import FeedState, ProcessState
from gpumodels_tui.sources.gpu_reading import GpuReading
from gpumodels_tui.sources.gpus import GpuProcess, HardwareState
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.filters import Filters
from snapshots import (
    GIB,
    H100,
    MIB,
    NOON_NS,
    WAN,
    a_device,
    a_feed,
    a_gpu,
    a_model,
    a_process,
    a_process_state,
    a_snapshot,
    some_hardware,
)

Series = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
UUIDS = {"cuda:0": H100}


def observed(feed: FeedState, hardware: HardwareState | None = None, seconds_later: float = 0) -> Observed:
    seen = Snapshots(feed, hardware or some_hardware(a_gpu()), CatalogueState(), NOON_NS + int(seconds_later * 1e9))
    return Observed(seen, build_view(seen.feed, seen.hardware, seen.catalogue))


def page(seen: Observed | None, choices: Choices | None = None) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ModelMetrics(lambda: seen, "1.2.3", choices or Choices()))
    return generate_latest(registry).decode()


def series(text: str) -> Series:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {(sample.name.removeprefix("gpumodels_"), tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(found) == len(samples), "each series once: Prometheus refuses a scrape with two"
    return found


def values(found: Series, name: str, *wanted: str) -> dict[tuple[str, ...], float]:
    """The values of one metric by some of its labels."""
    return {tuple(dict(labels)[one] for one in wanted): value for (of, labels), value in found.items() if of == name}


def test_models_have_their_bytes_by_device_and_what_is_offloaded() -> None:
    model = a_model(WAN, 2 * GIB, device="cuda:0", off_bytes=GIB, files=["/models/wan.safetensors"], name_source="mapped file")
    found = series(page(observed(a_feed(a_snapshot(model, uuids=UUIDS)))))
    assert values(found, "model_device_bytes", "model", "device") == {(WAN, "0"): 2 * GIB, (WAN, "host"): GIB}
    assert values(found, "model_offloaded_bytes", "model", "process", "user") == {(WAN, "ComfyUI/main.py", "ada"): GIB}
    wanted = ("model", "file", "kind", "dtype", "name_source")
    assert values(found, "model_info", *wanted) == {(WAN, "wan.safetensors", "checkpoint", "bfloat16", "mapped file"): 1}
    ids = {key for name in ("model_device_bytes", "model_offloaded_bytes", "model_info") for key in values(found, name, "id")}
    assert len(ids) == 1
    assert values(found, "models") == {(): 1}


def test_nothing_is_in_a_label_that_was_not_asked_for() -> None:
    model = a_model(WAN, 2 * GIB, files=["/secret/models/wan.safetensors"])
    process = a_process(pid=4711, command=["python", "main.py", "--token", "hunter2"])
    seen = observed(a_feed(a_snapshot(model, process=process)))
    assert not [word for word in ("4711", "hunter2", "/secret", "--token") if word in page(seen)]
    asked = page(seen, Choices(with_pid=True, with_paths=True))
    assert values(series(asked), "process_info", "pid") == {("4711",): 1}
    assert values(series(asked), "model_info", "file") == {("/secret/models/wan.safetensors",): 1}


def test_a_processes_parts_add_up_to_what_it_holds() -> None:
    device = a_device("cuda:0", 2 * GIB, H100, allocated_bytes=3 * GIB, reserved_bytes=4 * GIB)
    snapshot = a_snapshot(a_model(WAN, 2 * GIB, device="cuda:0"), devices=[device])
    found = series(page(observed(a_feed(snapshot), some_hardware(a_gpu(processes={4711: 5 * GIB})))))
    assert values(found, "process_device_bytes", "device", "part") == {
        ("0", "models"): 2 * GIB,
        ("0", "other_tensors"): GIB,
        ("0", "allocator_cache"): GIB,
        ("0", "outside_torch"): GIB,
    }


def test_what_is_unknown_is_absent_and_a_count_of_none_is_said() -> None:
    found = series(page(observed(a_feed(), some_hardware(GpuReading(0, H100, "NVIDIA GB10")))))
    assert values(found, "device_info", "device", "uuid") == {("0", H100): 1}
    names = {name for name, labels in found if ("device", "0") in labels}
    assert names == {"device_info", "device_up", "device_unattached_processes"}
    assert values(found, "models") == {(): 0}
    assert values(found, "processes", "state") == {("live",): 0, ("stalled",): 0, ("dead",): 0}
    assert not values(found, "model_loads_total"), "nobody counts in a single reading"


def test_models_of_processes_without_a_sidecar_are_named_without_paths_and_arguments() -> None:
    models = (
        OutsideModel(KnownBy.MAPPED, ("/secret/Qwen3-8B-Q4_K_M.gguf",)),
        OutsideModel(KnownBy.SERVER, stated=("/secret/Other-9B.gguf",)),
        OutsideModel(KnownBy.ARGUMENT, stated=("org/argued",)),
    )
    running = {pid: GpuProcess(pid, ("x",), "eve", 1, OutsideFacts(models)) for pid in (7, 8)}
    gpu = GpuReading(0, H100, "NVIDIA H100", processes={7: GIB, 8: GIB})
    text = page(observed(a_feed(), replace(some_hardware(gpu), running=running)))
    assert values(series(text), "unattached_model_info", "device", "model", "known_by") == {
        ("0", "Qwen3-8B-Q4_K_M.gguf", "mapped"): 1,
        ("0", "Other-9B", "server"): 1,
    }
    assert "secret" not in text


def test_devices_have_their_readings_in_base_units() -> None:
    found = series(page(observed(a_feed())))
    read = {name: value for (name, labels), value in found.items() if labels == (("device", "0"),)}
    assert read == {
        "device_up": 1,
        "device_used_bytes": 20 * GIB,
        "device_total_bytes": 80 * GIB,
        "device_utilization_ratio": 0.87,
        "device_temperature_celsius": 64,
        "device_power_watts": 412.5,
        "device_unattached_processes": 0,
    }
    assert values(found, "device_used_bytes", "device") == {("0",): 20 * GIB, ("host",): 64 * GIB}


def test_a_lost_gpu_is_not_like_an_idle_one() -> None:
    lost = replace(a_gpu(), used_bytes=None, total_bytes=80 * GIB, utilization_percent=None, lost="GPU is lost")
    found = series(page(observed(a_feed(), some_hardware(lost))))
    assert values(found, "device_up", "device") == {("0",): 0}
    assert not values(found, "device_unattached_processes", "device")


def test_a_device_that_may_be_any_of_the_drivers_is_not_counted_twice() -> None:
    unclear = a_snapshot(a_model(WAN, 2 * GIB, device="cuda:0"))
    found = series(page(observed(a_feed(unclear), some_hardware(a_gpu(), a_gpu(1, "GPU-other")))))
    assert set(values(found, "device_used_bytes", "device")) == {("0",), ("1",), ("host",)}
    assert sum(values(found, "model_device_bytes", "device").values()) == 2 * GIB


def test_simulated_devices_of_two_processes_with_one_name_are_two() -> None:
    def simulating(pid: int) -> ProcessState:
        device = a_device("cuda:0", GIB, name="H100", simulated=True, total_bytes=80 * GIB)
        return a_process_state(a_snapshot(a_model(WAN, GIB, device="cuda:0"), process=a_process(pid=pid), devices=[device]))

    found = series(page(observed(a_feed(simulating(1), simulating(2)), some_hardware())))
    assert len(values(found, "device_total_bytes", "device")) == 3
    assert values(found, "model_device_bytes", "process") == {("ComfyUI/main.py",): GIB, ("ComfyUI/main.py (2)",): GIB}


def test_small_models_have_one_name_however_many_there_are() -> None:
    small = a_model("12 small modules", MIB, "model", id="small")
    found = series(page(observed(a_feed(a_snapshot(small)))))
    assert values(found, "model_device_bytes", "model") == {("small models",): MIB}
    assert values(found, "models") == {(): 0}


def test_beyond_the_largest_models_one_series_sums_up_the_others() -> None:
    many = [a_model(f"m{number}", number * MIB, id=str(number)) for number in range(1, 11)]
    found = series(page(observed(a_feed(a_snapshot(*many))), Choices(most_models=3)))
    held = values(found, "model_device_bytes", "model", "id")
    assert {name: value / MIB for (name, _), value in held.items()} == {"m10": 10, "m9": 9, "m8": 8, "other": 28}
    assert len(values(found, "model_info", "model")) == 3
    assert values(found, "models") == {(): 10}
    everything_summed = series(page(observed(a_feed(a_snapshot(*many))), Choices(most_models=0)))
    assert values(everything_summed, "model_device_bytes", "model") == {("other",): 55 * MIB}


def test_a_damaged_file_costs_its_own_series_only() -> None:
    good = a_process_state(a_snapshot(a_model(WAN, GIB)), key="good")
    bad = a_process_state(a_snapshot(process=a_process("vllm", pid=2)), key="bad", problem="damaged")
    found = series(page(observed(a_feed(good, bad), some_hardware(a_gpu(), problems=["NVML: driver not loaded"]))))
    assert values(found, "last_read_success", "source", "process") == {
        ("driver", ""): 0,
        ("snapshot", "ComfyUI/main.py"): 1,
        ("snapshot", "vllm"): 0,
    }


def test_a_dead_process_holds_nothing_and_a_stalled_one_its_last() -> None:
    def held(liveness: Liveness) -> float:
        state = a_process_state(a_snapshot(a_model(WAN, GIB)), liveness)
        return sum(values(series(page(observed(a_feed(state)))), "model_device_bytes", "device").values())

    assert [held(liveness) for liveness in Liveness] == [
        GIB if liveness in (Liveness.LIVE, Liveness.STALLED) else 0 for liveness in Liveness
    ]


def test_the_age_of_a_snapshot_is_told_and_never_negative() -> None:
    feed = a_feed(a_snapshot())
    assert values(series(page(observed(feed, seconds_later=7))), "snapshot_age_seconds") == {(): 7}
    assert values(series(page(observed(feed, seconds_later=-7))), "snapshot_age_seconds") == {(): 0}


def test_memory_errors_are_counted_by_device_as_everything_is() -> None:
    device = replaced(a_device("cuda:0", uuid=H100), out_of_memory_count=3)
    found = series(page(observed(a_feed(a_snapshot(devices=[device])))))
    assert values(found, "out_of_memory_total", "device") == {("0",): 3}


def test_copies_of_a_model_are_counted_by_device() -> None:
    def holding(pid: int) -> ProcessState:
        model = a_model(WAN, 2 * GIB, device="cuda:0", files=["/m/wan.safetensors"], confidence=0.97)
        other = a_model("vae", GIB, "vae", id="vae", device="cuda:0", files=["/m/vae.safetensors"], confidence=0.97)
        models = [model, other] if pid == 1 else [model]
        return a_process_state(a_snapshot(*models, process=a_process(pid=pid), uuids=UUIDS))

    found = series(page(observed(a_feed(holding(1), holding(2)))))
    assert values(found, "model_copies", "model", "process", "device") == {
        (WAN, "ComfyUI/main.py", "0"): 2,
        (WAN, "ComfyUI/main.py (2)", "0"): 2,
        ("vae", "ComfyUI/main.py", "0"): 1,
    }


def test_only_the_chosen_user_is_told_of() -> None:
    feed = a_feed(
        a_process_state(a_snapshot(a_model("hers", GIB)), key="1", user="ada"),
        a_process_state(a_snapshot(a_model("his", GIB), process=a_process(pid=2)), key="2", user="bob"),
    )
    text = page(observed(feed), Choices(Filters(users=("ada",))))
    assert values(series(text), "model_device_bytes", "model") == {("hers",): GIB}
    assert "bob" not in text
    assert "his" not in {name for (name,) in values(series(text), "model_info", "model")}


def test_before_anything_was_read_only_that_is_said() -> None:
    found = series(page(None))
    assert found == {("build_info", (("version", "1.2.3"),)): 1, ("up", ()): 0}


@pytest.mark.parametrize("name", ['quote " and \\ and \n line', "模型 \u202e", "x" * 5000, ""])
def test_hostile_names_stay_within_their_label(name: str) -> None:
    model = a_model(name, GIB, files=[f"/m/{name}.safetensors"])
    found = series(page(observed(a_feed(a_snapshot(model, process=a_process(name or "p"))))))
    ((shown,),) = values(found, "model_device_bytes", "model")
    assert "\n" not in shown
    assert len(shown) <= 121


def test_names_and_help_follow_the_conventions() -> None:
    text = page(replace(observed(a_feed(a_snapshot(a_model(WAN, GIB)))), loads={"lora": 2}, unloads={}))
    families = list(text_string_to_metric_families(text))
    assert all(family.name.startswith("gpumodels_") and family.documentation.endswith(".") for family in families)
    assert all(family.type in ("gauge", "counter") for family in families)
    assert values(series(text), "model_loads_total", "kind")["lora",] == 2
    assert values(series(text), "model_unloads_total", "kind")["lora",] == 0


def test_every_metric_is_described_and_none_besides() -> None:
    counted = replace(observed(a_feed(a_snapshot(a_model(WAN, GIB)))), loads={}, unloads={})
    families = text_string_to_metric_families(page(counted))
    served = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    document = (Path(__file__).resolve().parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in document.splitlines() if line.startswith("| `gpumodels_")]
    assert set(re.findall(r"`(gpumodels_\w+)`", "".join(rows))) == served
