from __future__ import annotations

import os
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from gpumodels_shared.fingerprint import VALUES
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.oneshot import glance, table
from gpumodels_tui.sources.feed import FeedState
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.filtering import filtered
from gpumodels_tui.view.filters import Filters
from gpumodels_tui.view.process_rows import OUTSIDE_CONTAINER
from model_files import framed
from snapshots import (
    A100,
    GIB,
    MIB,
    MINUTE_NS,
    NOON_NS,
    WAN,
    a_feed,
    a_gpu,
    a_model,
    a_process,
    a_process_state,
    a_snapshot,
    an_identity,
    published,
    some_hardware,
)
from views import a_gpu as a_drawn_gpu
from views import a_llama_server, a_view, an_unattached


def table_of(feed: FeedState) -> list[str]:
    return table(build_view(feed, some_hardware(a_gpu()), CatalogueState()), NOON_NS).splitlines()


def test_a_table_that_is_wider_than_the_screen_has_each_name_on_a_line_of_its_own() -> None:
    models = [a_model(WAN, 2 * GIB, device="cuda:0"), a_model("n" * 120, GIB, device="cuda:0"), a_model("vae", 1, "vae")]
    view = build_view(a_feed(a_snapshot(*models)), some_hardware(a_gpu()), CatalogueState())
    lines = table(view, NOON_NS, 80).splitlines()
    assert lines[1].startswith("GPU 0")
    assert lines[2] == f"{WAN} (checkpoint, 2.0 GB, 145 layers)"
    assert lines[3].split() == ["2.0", "GB", "0", "B", "bf16", "2m", "ComfyUI/main.py", "4711"]
    assert lines[0].split() == ["on", "dev", "off", "dev", "dtype", "age", "process"]
    assert lines[0].index("process") == lines[3].index("ComfyUI") == lines[5].index("ComfyUI")
    assert [line for line in lines if len(line) > 80] == [f"{'n' * 120} (checkpoint, 1.0 GB, 145 layers)"], "a name is never cut"
    assert table(view, NOON_NS, 250) == table(view, NOON_NS)


def test_a_device_that_the_filters_leave_empty_has_no_heading() -> None:
    view = build_view(a_feed(a_snapshot(a_model("vae", GIB, "vae"))), some_hardware(a_gpu()), CatalogueState())
    assert "GPU 0" in table(view, NOON_NS)
    assert "GPU 0" not in table(filtered(view, Filters(kinds=("vae",))), NOON_NS)
    assert "GPU 0" in table(filtered(view, Filters(gpus=("0",))), NOON_NS)


def test_the_table_holds_devices_and_their_models_with_aligned_columns() -> None:
    snapshot = a_snapshot(
        a_model(WAN, int(2.1 * GIB), device="cuda:0", dtypes={"float8_e4m3fn": 2 * GIB, "float32": MIB}),
        a_model("VACE-Depth", 512 * MIB, "model", layers=45, device="cuda:0", loaded_at_ns=NOON_NS - 180 * MINUTE_NS),
        a_model("MyLoRA", 128 * MIB, "lora", layers=1, dtypes={"float16": 1}, loaded_at_ns=NOON_NS),
    )
    assert table_of(a_feed(snapshot)) == [
        "                                                       on dev  off dev  dtype  age  process",
        "GPU 0  NVIDIA H100 80GB HBM3  20.0 GB / 80.0 GB  87 %  64 °C  412 W",
        "Wan2_2-T2V-A14B-HIGH (checkpoint, 2.1 GB, 145 layers)  2.1 GB      0 B  fp8+    2m  ComfyUI/main.py 4711",
        "VACE-Depth (model, 512 MB, 45 layers)                  512 MB      0 B  bf16    3h  ComfyUI/main.py 4711",
        "",
        "Host memory  64.0 GB / 256 GB",
        "MyLoRA (lora, 128 MB, 1 layer)                         128 MB      0 B  fp16    0s  ComfyUI/main.py 4711",
    ]


def test_a_name_is_never_cut_and_does_not_push_other_lines_aside() -> None:
    name = "a-very-long-name-" * 10
    lines = table_of(a_feed(a_snapshot(a_model(name, 2 * GIB), a_model("short", GIB))))
    assert lines[4].startswith(f"{name} (checkpoint, 2.0 GB, 145 layers)  2.0 GB")
    assert lines[5].startswith("short (checkpoint, 1.0 GB, 145 layers)  1.0 GB")


def test_wide_characters_keep_the_columns_where_they_are() -> None:
    lines = table_of(a_feed(a_snapshot(a_model("名前", 2 * GIB), a_model("name", GIB))))
    assert lines[4].index("2.0 GB  ") == lines[5].index("1.0 GB  ") - 2


NAMES_AND_COLUMNS = [
    ("plain", 5),
    ("模型", 4),
    ("한국어", 6),
    ("ｆｕｌｌ", 8),
    ("cafe\u0301", 4),
    ("שלום עולם", 9),
    ("مُحَمَّد", 4),
    ("नमस्ते", 4),
    ("ไทย", 3),
    ("⚡ bolt", 7),
    ("❤\ufe0f x", 4),
]
"""Names and their columns as wcwidth 0.9.4 counts them."""


def test_names_of_any_script_leave_numbers_and_ages_in_their_columns() -> None:
    models = [a_model(name, (20 - place) * GIB, dtypes={"模型": 1, "x": 0}) for place, (name, _) in enumerate(NAMES_AND_COLUMNS)]
    lines = [line for line in table_of(a_feed(a_snapshot(*models))) if "checkpoint" in line]
    ends = {
        columns + len(line.removeprefix(name).rpartition("  2m  ")[0])
        for line, (name, columns) in zip(lines, NAMES_AND_COLUMNS, strict=True)
    }
    assert len(ends) == 1, lines


def test_a_dtype_of_wide_characters_does_not_move_the_ages() -> None:
    dtypes = ({"模型": 1}, {"float16": 1})
    first, second = table_of(a_feed(a_snapshot(*(a_model(str(len(one)), GIB, dtypes=one, id=str(one)) for one in dtypes))))[-2:]
    assert cell_len(first.partition("  2m  ")[0]) == cell_len(second.partition("  2m  ")[0])


def test_what_is_unusual_about_a_device_stands_behind_its_title() -> None:
    lost = replace(a_gpu(), used_bytes=None, utilization_percent=None, lost="GPU is lost")
    shared = replace(a_gpu(1, A100, "NVIDIA GB10", total_bytes=256 * GIB), shares_host_memory=True)
    view = build_view(a_feed(a_snapshot(a_model())), some_hardware(lost, shared), CatalogueState())
    heads = [line for line in table(view, NOON_NS).splitlines() if line.startswith("GPU ")]
    assert heads == [
        "GPU 0  NVIDIA H100 80GB HBM3  lost  ? / 80.0 GB  64 °C  412 W",
        "GPU 1  NVIDIA GB10  shared with the host  20.0 GB / 256 GB  87 %  64 °C  412 W",
    ]


def test_a_state_stands_behind_the_process() -> None:
    lines = table_of(a_feed(a_process_state(a_snapshot(a_model()), Liveness.STALLED)))
    assert lines[-1].endswith("ComfyUI/main.py 4711 (stalled)")


def test_a_line_break_or_an_escape_in_a_name_stays_in_its_line() -> None:
    lines = table_of(a_feed(a_snapshot(a_model("a\nb\x1b[2J\r"))))
    assert len(lines) == 5
    assert lines[-1].startswith("a\\x0ab\\x1b[2J\\x0d (checkpoint")


def test_one_look_reads_all_and_lets_go_of_it(tmp_path: Path) -> None:
    writer = published(tmp_path, a_snapshot(a_model()))
    seen = glance(Sources((tmp_path,)))
    assert [process.snapshot for process in seen.feed.processes] == [a_snapshot(a_model())]
    assert seen.hardware.host_total_bytes
    assert seen.catalogue == CatalogueState()
    writer.abandon()


def test_a_look_whose_time_is_over_says_which_names_are_pending_and_the_next_one_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, snapshots = tmp_path / "models", tmp_path / "snapshots"
    models.mkdir()
    snapshots.mkdir()
    fingerprint = write_square(models / "sharp_vae.safetensors")
    unnamed = replace(a_model("AutoencoderKL", confidence=0.0, name_source="class"), fingerprint=fingerprint)
    writer = published(snapshots, a_snapshot(unnamed, process=a_process(pid=os.getpid())), an_identity())
    try:
        monkeypatch.setattr("gpumodels_tui.oneshot.MODEL_FILES_SECONDS", 0.0)
        first = glance(Sources((snapshots,), (models,)))
        monkeypatch.setattr("gpumodels_tui.oneshot.MODEL_FILES_SECONDS", 60.0)
        second = glance(Sources((snapshots,), (models,)))
    finally:
        writer.abandon()
    assert (first.catalogue.values, first.catalogue.unsettled) == ({}, frozenset((fingerprint,)))
    assert second.catalogue.values[fingerprint].files == (str(models / "sharp_vae.safetensors"),)
    assert second.catalogue.unsettled == frozenset()


def write_square(path: Path) -> Fingerprint:
    """A file of one tensor; what a process would say that its values are."""
    values = struct.pack("<64f", *range(64))
    path.write_bytes(framed(b'{"w": {"dtype": "F32", "shape": [8, 8], "data_offsets": [0, 256]}}') + values)
    return Fingerprint((TensorSample("w", "float32", (8, 8), values[: 4 * VALUES]),), time.time_ns() + 10**9)


def test_one_look_finds_a_comfyuis_own_files_without_being_told_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comfyui, snapshots = tmp_path / "ComfyUI", tmp_path / "snapshots"
    models = comfyui / "models" / "vae"
    for directory in (comfyui / "comfy", models, snapshots):
        directory.mkdir(parents=True)
    for name in ("main.py", "folder_paths.py"):
        (comfyui / name).touch()
    fingerprint = write_square(models / "sharp_vae.safetensors")
    monkeypatch.chdir(comfyui)
    unnamed = replace(a_model("AutoencoderKL", confidence=0.0, name_source="class"), fingerprint=fingerprint)
    writer = published(snapshots, a_snapshot(unnamed, process=a_process(pid=os.getpid())), an_identity())
    try:
        seen = glance(Sources((snapshots,), are_chosen=False))
    finally:
        writer.abandon()
    assert seen.catalogue.values[fingerprint].files == (str(models / "sharp_vae.safetensors"),)


def test_processes_without_a_sidecar_have_lines_with_what_is_known_of_them() -> None:
    seen = [
        a_llama_server(4711, int(6.1 * GIB)),
        an_unattached(7, None),
        replace(an_unattached(8), unread="owned by another user: run as root or that user"),
        replace(an_unattached(9), pid=None, command=OUTSIDE_CONTAINER, user="", started_at_ns=None),
    ]
    lines = table(a_view(a_drawn_gpu(unattached=seen)), NOON_NS).splitlines()
    known = "llama-server 4711, not attached: Qwen3-8B-Q4_K_M.gguf (mapped); ada/style (in its arguments)"
    assert [line.split("  ")[0] for line in lines[2:]] == [
        known,
        "python serve.py 7, not attached",
        "python serve.py 8, not attached (owned by another user: run as root or that user)",
        "a process outside this container, not attached",
    ]
    assert lines[2].removeprefix(known).split() == ["6.1", "GB", "1h", "eve", "4711"]
    assert lines[3].removeprefix("python serve.py 7, not attached").split() == ["?", "1h", "eve", "7"]
