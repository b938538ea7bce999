"""Tests of the facts about a process, with a sidecar and without."""

from __future__ import annotations

import dataclasses
from typing import Final

from gpumodels_shared.records import replace
from gpumodels_shared.schema import DeviceMemory, Model, OutOfMemory, Stage
from gpumodels_tui.view.model_facts import Fact
from gpumodels_tui.view.process_facts import MOST_WARNINGS, facts_of_process, facts_of_unattached
from gpumodels_tui.view.process_rows import ProcessDevice, ProcessRow
from snapshots import GIB, MINUTE_NS, NOON_NS, a_device, a_model, a_process, a_process_state, a_snapshot
from views import NOON_SECONDS, a_full_view, a_gpu, a_llama_server, a_view, an_unattached

EVIL: Final = "\x1b]0;owned\x07\u202e"


def told(row: ProcessRow, label: str) -> list[str]:
    return [fact.value for fact in facts_of_process(row, NOON_SECONDS) if fact.label == label]


def test_what_a_process_is_and_how_its_sidecar_does() -> None:
    process = a_process("vllm", 90210, command=("python", "-m", "vllm", "serve it"), visible_devices="2,3", rank=1)
    state = a_process_state(a_snapshot(process=process), user="ada")
    row = replace(a_full_view().process_rows[0], state=state, pid=90210, user="ada", command="python -m vllm 'serve it'")
    row = replace(row, started_at_ns=NOON_NS - 90 * MINUTE_NS)
    facts = {fact.label: fact.value for fact in facts_of_process(row, NOON_SECONDS)}
    assert facts["command"] == "python -m vllm 'serve it'"
    assert facts["process"] == "pid 90210, user ada, up 1h, rank 1"
    assert facts["versions"] == "Python 3.11.9, torch 2.13.0, gpumodels 0.1.0"
    assert facts["sidecar"] == "live, no failures, 1.0 ms per scan, every 1 s, 600 modules"
    assert facts["env"] == "CUDA_VISIBLE_DEVICES=2,3"
    assert state.snapshot is not None
    health = dataclasses.replace(state.snapshot.health, failures=3)
    failing = replace(row, state=replace(state, snapshot=dataclasses.replace(state.snapshot, health=health)))
    said = "live, failures: 3, 1.0 ms per scan, every 1 s, 600 modules"
    assert Fact("sidecar", said) in facts_of_process(failing, NOON_SECONDS)


def test_a_process_that_has_published_nothing_yet_and_one_without_a_sidecar_say_so() -> None:
    row = replace(a_full_view().process_rows[0], started_at_ns=None, user="", command="")
    starting = replace(row, state=a_process_state(None))
    assert facts_of_process(starting, NOON_SECONDS) == [
        Fact("command", "unknown"),
        Fact("process", "pid 4711, user unknown"),
        Fact("sidecar", "has not published a snapshot yet"),
    ]
    assert told(replace(row, state=None), "sidecar") == [
        "not attached: start one with `import gpumodels; gpumodels.start()`",
    ]


def test_where_the_pages_of_all_its_models_are_is_told_in_one_line() -> None:
    wan = dataclasses.replace(
        a_model("wan", 6 * GIB, device="cuda:0", off_bytes=3 * GIB),
        offloaded_bytes=8 * GIB,
        pinned_bytes=GIB,
        dynamic_memory=True,
    )
    vae = dataclasses.replace(a_model("vae", device="cuda:0", bytes_by_device={}), offloaded_bytes=GIB, dynamic_memory=True)
    row = a_full_view().process_rows[0]

    def line(*models: Model) -> list[str]:
        return told(replace(row, state=a_process_state(a_snapshot(*models))), "paging")

    rest = "3.0 GB in host memory (1.0 GB pinned)"
    assert line(wan) == [f"dynamic VRAM, 1 model: 6.0 GB on its device, {rest}, 5.0 GB on disk only"]
    assert line(wan, vae) == [f"dynamic VRAM, 2 models: 6.0 GB on their device, {rest}, 6.0 GB on disk only"]
    assert line(a_model("plain", GIB)) == []


def test_warnings_and_devices_that_ran_out_are_told_and_of_thousands_of_warnings_the_first() -> None:
    snapshot = a_snapshot(warnings=[f"warning {number}" for number in range(1_000)])
    full = dataclasses.replace(a_device("cuda:0"), out_of_memory_count=3)
    never = a_device("cuda:1")
    state = a_process_state(dataclasses.replace(snapshot, devices=(full, never)))
    row = replace(a_full_view().process_rows[0], state=state)
    assert told(row, "errors") == ["out of memory on cuda:0, 3× since the process started"]
    assert told(row, "warning") == [f"warning {number}" for number in range(MOST_WARNINGS)]


def test_failed_allocations_are_told_the_last_first_with_what_prints_all_of_them() -> None:
    old = OutOfMemory(NOON_NS - 2 * MINUTE_NS, "cuda:0", requested_bytes=GIB)
    last = OutOfMemory(NOON_NS - MINUTE_NS, "cuda:1", stage="KSampler", record=f"/dev/shm/oom-1{EVIL}.json")
    snapshot = dataclasses.replace(a_snapshot(), out_of_memory=(old, last))
    row = replace(a_full_view().process_rows[0], state=a_process_state(snapshot))
    facts = facts_of_process(row, NOON_SECONDS)
    start = next(number for number, fact in enumerate(facts) if fact.label == "out of mem")
    assert [fact.value for fact in facts[start : start + 2]] == [
        "1m ago: an unknown size on cuda:1 in KSampler",
        "2m ago: 1.0 GB on cuda:0",
    ]
    assert facts[start + 2].value.startswith("gpumodels-tui oom /dev/shm/oom-1")
    assert "\x1b" not in facts[start + 2].value


def test_an_unattached_process_is_told_of_as_far_as_the_driver_and_the_kernel_know_it() -> None:
    assert facts_of_unattached(an_unattached(2222, 3 * GIB))[:4] == [
        Fact("command", "python serve.py"),
        Fact("pid", "2222"),
        Fact("user", "eve"),
        Fact("memory", "3.0 GB"),
    ]
    unknown = replace(an_unattached(2222, None, ""), user="")
    assert [fact.value for fact in facts_of_unattached(unknown)[:4]] == [
        "unknown",
        "2222",
        "unknown",
        "not reported by the driver",
    ]


def test_what_is_known_from_outside_is_told_with_how_and_why_nothing_more() -> None:
    process = a_llama_server(unread="owned by another user: run as root or that user", not_said="it wants a key")
    outside = [
        Fact("model", "Qwen3-8B-Q4_K_M.gguf (mapped), a file of 5.0 GB"),
        Fact("file", "/m/Qwen3-8B-Q4_K_M.gguf", is_path=True),
        Fact("", "ada/style (in its arguments: --lora)"),
        Fact("files", "not seen: owned by another user: run as root or that user"),
        Fact("server", "told nothing: it wants a key"),
    ]
    assert facts_of_unattached(process)[4:-1] == outside
    (row,) = a_view(a_gpu(unattached=[process])).process_rows
    assert facts_of_process(row, NOON_SECONDS)[-5:] == outside
    assert facts_of_unattached(an_unattached())[-1].value.startswith("unknown: no sidecar")


def test_nothing_hostile_reaches_what_is_drawn() -> None:
    process = dataclasses.replace(a_process(EVIL, command=(EVIL,), visible_devices=EVIL), torch_version=EVIL)
    device = dataclasses.replace(a_device(EVIL), out_of_memory_count=1)
    state = a_process_state(a_snapshot(process=process, devices=[device], warnings=[EVIL]), user=EVIL)
    row = replace(a_full_view().process_rows[0], state=state, user=EVIL, command=EVIL)
    facts = [*facts_of_process(row, NOON_SECONDS), *facts_of_unattached(replace(an_unattached(command=EVIL), user=EVIL))]
    assert all(text.isprintable() for fact in facts for text in (fact.label, fact.value))
    assert {"errors", "warning", "env"} <= {fact.label for fact in facts}


def test_models_that_the_manager_does_not_know_and_the_last_stages_are_told() -> None:
    known = dataclasses.replace(a_model("known", GIB), managed_by="ComfyUI")
    models = [known, *(a_model(name, GIB) for name in ("one", "two", "three", "four"))]
    running = Stage("7", "KSampler", NOON_NS - MINUTE_NS)
    over = Stage("4", "UNETLoader", NOON_NS - MINUTE_NS, NOON_NS, "cpu", 0, GIB)
    snapshot = dataclasses.replace(a_snapshot(*models), model_manager="ComfyUI", stages=(over, running))
    row = replace(a_full_view().process_rows[0], state=a_process_state(snapshot))
    said = "one, two, three and 1 more, 4.0 GB: 'unload models' does not free them"
    assert told(row, "unmanaged") == [said]
    assert told(row, "running") == ["KSampler (7), for 1m"]
    assert told(row, "took most") == ["UNETLoader (4): +1.0 GB to 1.0 GB in host memory, 0s ago"]
    assert facts_of_process(row, NOON_SECONDS)[-1] == Fact("ran", "0s ago  UNETLoader (4), 1m: +1.0 GB to 1.0 GB in host memory")
    unmanaged = dataclasses.replace(snapshot, model_manager=None, stages=())
    assert {"unmanaged", "running", "ran"}.isdisjoint(
        fact.label for fact in facts_of_process(replace(row, state=a_process_state(unmanaged)), NOON_SECONDS)
    )


def test_what_the_driver_counts_less_than_torch_is_said_and_what_sleeps() -> None:
    row = a_full_view().process_rows[0]
    memory = DeviceMemory("cuda:0", 0, asleep_bytes=13 * GIB)
    row = replace(row, state=a_process_state(a_snapshot(devices=[memory])))
    assert told(row, "asleep") == ["13.0 GB of cuda:0, in no sum: given back to the driver"]
    assert told(row, "missing") == []
    device = ProcessDevice("gpu:x", "cuda:0", "cuda:0 = GPU 0", (), None, missing_bytes=2 * GIB)
    said = "the driver counts 2.0 GB less on cuda:0 than torch has reserved"
    assert told(replace(row, devices=(device,)), "missing")[0].startswith(said)
    assert told(replace(row, devices=(replace(device, missing_bytes=1024),)), "missing") == []


def test_what_chooses_other_vendors_devices_is_told() -> None:
    process = a_process(visible_devices="1", device_choice={"ROCR_VISIBLE_DEVICES": "3", "HIP_VISIBLE_DEVICES": EVIL})
    row = replace(a_full_view().process_rows[0], state=a_process_state(a_snapshot(process=process)))
    first, second, third = told(row, "env")
    assert (first, third) == ("CUDA_VISIBLE_DEVICES=1", "ROCR_VISIBLE_DEVICES=3")
    assert second.startswith("HIP_VISIBLE_DEVICES=")
    assert EVIL not in second
