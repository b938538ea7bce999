"""Each hint where it speaks, and in the nearest situations in which it must be silent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import DeviceMemory, Model, OutOfMemory, Snapshot, Stage
from gpumodels_tui import cli
from gpumodels_tui.json_output import document
from gpumodels_tui.oneshot import Snapshots
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.copies import Copies
from gpumodels_tui.view.hints import MODEL_RULES, PROCESS_RULES, ModelFacts, hints_of_model, hints_of_process
from gpumodels_tui.view.model_facts import facts_of
from gpumodels_tui.view.process_facts import facts_of_process
from hosts import a_host
from snapshots import (
    GIB,
    MIB,
    NOON_NS,
    a_catalogue,
    a_device,
    a_feed,
    a_model,
    a_process_state,
    a_snapshot,
    some_facts,
    some_hardware,
)
from views import NOON_SECONDS

FILE: Final = "/m/wan.safetensors"
WIDE: Final = a_model("wan", 4 * GIB, device="cuda:0", dtypes={"float32": 4 * GIB}, files=[FILE], name_source="state dict")
VAE: Final = a_model("vae", GIB, "vae", device="cuda:0", dtypes={"float32": GIB})
UNET: Final = a_model("unet", 4 * GIB, device="cuda:0", dtypes={"bfloat16": 4 * GIB})
TRAINS: Final = replace(a_device("cuda:0", 4 * GIB), gradients_bytes=4 * GIB)
HOUR_NS: Final = 3600 * 10**9


def about(
    model: Model, file_dtypes: Mapping[str, int] | None = None, copies: tuple[Copies, ...] = (), snapshot: Snapshot | None = None
) -> ModelFacts:
    return ModelFacts(model, a_process_state(snapshot or a_snapshot(model), key="this"), file_dtypes or {}, copies)


def said(rule: str, facts: ModelFacts) -> str | None:
    return MODEL_RULES[rule](facts)


def said_of_process(rule: str, snapshot: Snapshot, now: float = NOON_SECONDS) -> str | None:
    return PROCESS_RULES[rule](snapshot, now)


def test_a_model_that_is_wider_than_its_file_is_told_with_the_bytes() -> None:
    assert said("wider than its file", about(WIDE, {"bfloat16": 2 * GIB})) == (
        "held as float32, twice the bytes of bfloat16 in its file: loaded as bfloat16 (dtype=torch.bfloat16) it takes 2.0 GB less"
    )
    as_float8 = said("wider than its file", about(WIDE, {"float8_e4m3fn": GIB}))
    assert as_float8 is not None
    assert "four times" in as_float8
    assert "where the program can compute so" in as_float8
    assert as_float8.endswith("3.0 GB less")


def test_of_a_checkpoint_with_several_models_what_is_as_wide_there_does_not_count() -> None:
    mixed = about(WIDE, {"float16": 5 * GIB, "float32": GIB})
    hint = said("wider than its file", mixed)
    assert hint is not None
    assert hint.endswith("1.5 GB less")
    assert said("wider than its file", about(WIDE, {"float16": 5 * GIB, "float32": 4 * GIB})) is None


@pytest.mark.parametrize(
    ("changes", "file_dtypes"),
    [
        ({}, {"float32": 4 * GIB}),
        ({"dtypes": {"bfloat16": 4 * GIB}}, {"float16": 4 * GIB}),
        ({}, {}),
        ({}, {"bfloat16": GIB}),  # half of its elements are from elsewhere
        ({}, {"Q4_K": GIB}),
        ({"dtypes": {"uint8": 4 * GIB}}, {"float8_e4m3fn": 4 * GIB}),
        ({"files": ()}, {"bfloat16": 2 * GIB}),
        ({"confidence": 0.3}, {"bfloat16": 2 * GIB}),
        ({"name_source": "names and shapes"}, {"bfloat16": 2 * GIB}),
        ({"leftover_of": "wan"}, {"bfloat16": 2 * GIB}),
        ({"kind": "vae"}, {"float16": 2 * GIB}),
    ],
)
def test_a_model_that_is_not_certainly_wider_than_its_file_is_left_alone(
    changes: Mapping[str, Any], file_dtypes: Mapping[str, int]
) -> None:
    assert said("wider than its file", about(replace(WIDE, **changes), file_dtypes)) is None


def test_training_keeps_wide_weights_and_copies_on_purpose() -> None:
    training = a_snapshot(WIDE, devices=[TRAINS])
    copies = Copies(8 * GIB, (("this", "wan"), ("this", "ema")))
    merged = replace(WIDE, compared_tensors=90, matched_tensors=80)
    for model, rule in ((WIDE, "wider than its file"), (WIDE, "several copies"), (merged, "left merged")):
        facts = about(model, {"bfloat16": 2 * GIB}, (copies,))
        assert said(rule, facts) is not None
        assert said(rule, about(model, {"bfloat16": 2 * GIB}, (copies,), training)) is None


def test_a_float32_vae_beside_a_bfloat16_model_is_told() -> None:
    beside = a_snapshot(VAE, UNET)
    assert said("float32 VAE", about(VAE, snapshot=beside)) == (
        "a float32 VAE beside a bfloat16 model: in bfloat16 it takes 512 MB less, nearly alike (vae.to(torch.bfloat16))"
    )
    in_comfy = said("float32 VAE", about(VAE, snapshot=replace(beside, model_manager="ComfyUI")))
    assert in_comfy is not None
    assert in_comfy.endswith("(start ComfyUI with --bf16-vae)")


@pytest.mark.parametrize(
    "beside",
    [
        a_snapshot(VAE),
        a_snapshot(VAE, replace(UNET, dtypes={"float16": 4 * GIB})),
        a_snapshot(VAE, replace(UNET, dtypes={"float32": 4 * GIB})),
        a_snapshot(VAE, replace(UNET, device="cuda:1")),
        a_snapshot(VAE, replace(UNET, kind="clip")),
        a_snapshot(VAE, UNET, devices=[TRAINS]),
    ],
    ids=["alone", "float16", "float32", "another device", "a text encoder", "training"],
)
def test_a_float32_vae_beside_anything_else_is_left_alone(beside: Snapshot) -> None:
    assert said("float32 VAE", about(VAE, snapshot=beside)) is None


def test_a_vae_that_is_not_float32_is_left_alone_and_one_wider_than_its_file_has_one_hint() -> None:
    halved = replace(VAE, dtypes={"bfloat16": GIB})
    assert said("float32 VAE", about(halved, snapshot=a_snapshot(halved, UNET))) is None
    read = replace(VAE, files=(FILE,), name_source="state dict")
    hints = hints_of_model(about(read, {"bfloat16": GIB // 2}, snapshot=a_snapshot(read, UNET)))
    assert len(hints) == 1
    assert hints[0].startswith("held as float32")


def test_copies_are_told_where_one_would_do() -> None:
    here = Copies(6 * GIB, (("this", "a"), ("this", "b"), ("this", "c")))
    assert said("several copies", about(WIDE, copies=(here,))) == (
        "there 3 times, 6.0 GB in all: one copy would do for all; `gpumodels-tui why` says who holds each"
    )
    elsewhere = Copies(4 * GIB, (("this", "a"), ("other", "a")))
    assert said("several copies", about(WIDE, copies=(elsewhere,))) == (
        "there 2 times, 4.0 GB in all, not only in this process: one process that serves all would need one copy"
    )
    alone = Copies(2 * GIB, (("this", "a"),))
    assert said("several copies", about(WIDE, copies=(alone, alone))) is None  # one on each of two devices
    assert said("several copies", about(WIDE)) is None


def test_what_only_a_cycle_holds_is_freed_by_the_collector() -> None:
    left = replace(UNET, leftover_of="unet")
    assert said("only reference cycles", about(left)) == (
        "only reference cycles hold it: gc.collect() in its process frees 4.0 GB"
    )
    assert said("only reference cycles", about(UNET)) is None


def test_what_is_left_merged_without_an_adapter_is_told() -> None:
    merged = replace(WIDE, compared_tensors=90, matched_tensors=80, compared_samples=9, matched_samples=9)
    assert said("left merged", about(merged)) == (
        "10 of 90 tensors differ from its file, and no adapter is loaded: a LoRA or another change is left in it; "
        "loading it again brings the file's weights back"
    )
    sampled = said("left merged", about(replace(WIDE, compared_samples=9, matched_samples=8)))
    assert sampled is not None
    assert sampled.startswith("1 of 9 sampled tensors differ")


@pytest.mark.parametrize(
    "changes",
    [
        {"matched_tensors": 90},
        {"matched_tensors": 20},  # it was trained
        {"adapters": ("wan/style",)},
        {"files": ()},
        {"leftover_of": "wan"},
        {"compared_tensors": None, "matched_tensors": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_model_that_is_as_its_file_or_that_an_adapter_explains_is_left_alone(changes: Mapping[str, Any]) -> None:
    merged = replace(WIDE, compared_tensors=90, matched_tensors=80)
    assert said("left merged", about(replace(merged, **changes))) is None


def test_an_allocators_cache_larger_than_the_models_could_be_returned() -> None:
    device = a_device("cuda:0", 2 * GIB, allocated_bytes=2 * GIB, reserved_bytes=11 * GIB)
    snapshot = a_snapshot(UNET, devices=[device])
    assert said_of_process("allocator cache", snapshot) == (
        "torch keeps 9.0 GB on cuda:0 that nothing uses now, more than its models take there: "
        "torch.cuda.empty_cache() would return up to that"
    )


@pytest.mark.parametrize(
    "device",
    [
        a_device("cuda:0", 2 * GIB, allocated_bytes=2 * GIB, reserved_bytes=4 * GIB),
        a_device("cuda:0", 0, allocated_bytes=0, reserved_bytes=20 * MIB),
        a_device("cuda:0", 2 * GIB, reserved_bytes=11 * GIB),
        a_device("mps:0", 2 * GIB, allocated_bytes=2 * GIB),
        replace(a_device("cuda:0", 2 * GIB, allocated_bytes=2 * GIB, reserved_bytes=11 * GIB), optimizer_bytes=GIB),
        replace(a_device("cuda:0", 2 * GIB, allocated_bytes=2 * GIB, reserved_bytes=11 * GIB), asleep_bytes=GIB),
    ],
    ids=["as large as the models", "small", "allocated unknown", "reserved unknown", "training", "asleep"],
)
def test_an_allocators_cache_that_is_of_use_or_unknown_is_left_alone(device: DeviceMemory) -> None:
    assert said_of_process("allocator cache", a_snapshot(UNET, devices=[device])) is None


FAILED: Final = OutOfMemory(
    NOON_NS, "cuda:0", requested_bytes=2 * GIB, allocated_bytes=70 * GIB, reserved_bytes=75 * GIB, free_bytes=GIB
)


def test_an_allocation_that_failed_beside_enough_unused_memory_is_told() -> None:
    assert said_of_process("memory in pieces", replace(a_snapshot(UNET), out_of_memory=(FAILED,))) == (
        "the last allocation that failed asked for 2.0 GB while torch held 5.0 GB unused, in smaller pieces: "
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True avoids most of that"
    )


@pytest.mark.parametrize(
    "failures",
    [
        (),
        (replace(FAILED, reserved_bytes=71 * GIB),),
        (replace(FAILED, noticed_by="counter"),),  # its figures are of an earlier moment
        (replace(FAILED, device="cpu"),),
        (replace(FAILED, requested_bytes=None),),
        (replace(FAILED, reserved_bytes=None),),
        (FAILED, replace(FAILED, reserved_bytes=71 * GIB)),
    ],
    ids=["none", "little unused", "counter", "host memory", "size unknown", "reserved unknown", "an earlier one"],
)
def test_an_allocation_for_which_there_was_no_room_is_left_alone(failures: tuple[OutOfMemory, ...]) -> None:
    assert said_of_process("memory in pieces", replace(a_snapshot(UNET), out_of_memory=failures)) is None


COMFY: Final = replace(
    a_snapshot(replace(UNET, managed_by="ComfyUI"), VAE),
    model_manager="ComfyUI",
    stages=(Stage("4", "KSampler", NOON_NS - 3 * HOUR_NS, NOON_NS - 2 * HOUR_NS),),
)


def test_a_comfyui_that_has_run_nothing_for_hours_could_unload_its_models() -> None:
    assert said_of_process("idle", COMFY) == "no node has run for 2h: ComfyUI's 'Unload Models' would free 4.0 GB"


@pytest.mark.parametrize(
    "snapshot",
    [
        replace(COMFY, stages=(*COMFY.stages, Stage("5", "VAEDecode", NOON_NS - HOUR_NS // 2, NOON_NS - HOUR_NS // 3))),
        replace(COMFY, stages=(*COMFY.stages, Stage("5", "KSampler", NOON_NS - 2 * HOUR_NS))),
        replace(COMFY, stages=()),
        replace(COMFY, model_manager=None),
        replace(COMFY, models=(VAE,)),
        replace(COMFY, models=(replace(UNET, managed_by="ComfyUI", device="cpu", bytes_by_device={"cpu": GIB}),)),
    ],
    ids=["lately", "a node runs", "no node seen", "another program", "not managed", "in host memory"],
)
def test_what_may_be_at_work_or_cannot_be_unloaded_is_left_alone(snapshot: Snapshot) -> None:
    assert said_of_process("idle", snapshot) is None


def test_of_a_process_that_is_dead_or_stopped_nothing_is_advised() -> None:
    left = replace(UNET, leftover_of="unet")
    alive = a_process_state(a_snapshot(left))
    assert hints_of_model(ModelFacts(left, alive)) != []
    assert hints_of_model(ModelFacts(left, a_process_state(a_snapshot(left), Liveness.DEAD))) == []
    assert hints_of_process(a_process_state(COMFY), NOON_SECONDS) != []
    for liveness in (Liveness.STALLED, Liveness.DEAD):
        assert hints_of_process(a_process_state(COMFY, liveness), NOON_SECONDS) == []
    assert hints_of_process(a_process_state(None), NOON_SECONDS) == []


def test_hints_stand_with_the_facts_on_the_screens_and_in_the_document() -> None:
    snapshot = replace(COMFY, models=(WIDE, *COMFY.models))
    feed, catalogue = a_feed(snapshot), a_catalogue(some_facts(FILE, dtypes={"bfloat16": 2 * GIB}))
    view = build_view(feed, some_hardware(), catalogue)
    row = next(row for device in view.devices for row in device.models if row.model.id == "wan")
    on_screen = [fact.value for fact in facts_of(row) if fact.label == "hint"]
    assert [hint.partition(",")[0] for hint in on_screen] == ["held as float32"]
    of_process = [fact.value for fact in facts_of_process(view.process_rows[0], NOON_SECONDS) if fact.label == "hint"]
    assert len(of_process) == 1
    whole: Any = document(Snapshots(feed, some_hardware(), catalogue, NOON_NS))
    (process,) = whole["processes"]
    assert process["hints"] == of_process
    assert {model["id"]: model["hints"] for model in process["models"]}["wan"] == on_screen


def test_a_file_that_another_has_replaced_says_nothing_of_the_model() -> None:
    stamped = replace(WIDE, file_stamps=((2 * GIB, NOON_NS),))
    for model, count in ((stamped, 1), (replace(WIDE, file_stamps=((7, 7),)), 0), (replace(WIDE, files=(FILE, "/m/2")), 0)):
        catalogue = a_catalogue(some_facts(FILE, dtypes={"bfloat16": 2 * GIB}))
        view = build_view(a_feed(a_snapshot(model)), some_hardware(), catalogue)
        (row,) = (row for device in view.devices for row in device.models)
        assert sum(fact.label == "hint" for fact in facts_of(row)) == count


REAL: Final = """
import gpumodels, torch
from safetensors.torch import load_file, save_file
from torch import nn
gpumodels.start()
class Wide(nn.Sequential): pass
class Alike(nn.Sequential): pass
def loaded(kind, dtype, file):
    made = kind(nn.Linear(512, 512), nn.Linear(512, 512)).to(dtype)
    save_file({key: value.to(torch.bfloat16) for key, value in made.state_dict().items()}, file)
    made.load_state_dict(load_file(file))
    return made
"""


@pytest.mark.slow
def test_a_real_process_that_keeps_a_file_wider_than_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "own"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("GPUMODELS_DIR", str(directory))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with a_host(directory) as host:
        host.tell(REAL)
        host.tell(f"wide = loaded(Wide, torch.float32, {str(tmp_path / 'Wide-7B.safetensors')!r})")
        host.tell(f"alike = loaded(Alike, torch.bfloat16, {str(tmp_path / 'Alike-7B.safetensors')!r})")
        host.models_when(lambda models: {"Wide-7B", "Alike-7B"} <= {model.name for model in models if model.files})
        assert cli.main(["--json"]) == 0
        (process,) = json.loads(capsys.readouterr().out)["processes"]
    hints = {model["name"]: model["hints"] for model in process["models"]}
    assert hints["Wide-7B"] == [
        "held as float32, twice the bytes of bfloat16 in its file: loaded as bfloat16 (dtype=torch.bfloat16) it takes 1.0 MB less"
    ]
    assert hints["Alike-7B"] == []
