"""The rows of `--csv`."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from gpumodels_shared.schema import Job
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.csv_output import COLUMNS, text
from gpumodels_tui.sources.feed import FeedState
from gpumodels_tui.view.builder import build_view
from snapshots import GIB, H100, NOON_NS, WAN, a_feed, a_gpu, a_model, a_process, a_process_state, a_snapshot, some_hardware


def rows_of(feed: FeedState) -> list[dict[str, str]]:
    view = build_view(feed, some_hardware(a_gpu()), CatalogueState())
    return list(csv.DictReader(io.StringIO(text(view, NOON_NS))))


def test_a_row_is_a_model_on_a_device() -> None:
    job = Job(id="slurm 42")
    model = a_model(WAN, 2 * GIB, device="cuda:0", off_bytes=GIB, files=["/m/a,b.safetensors"])
    snapshot = a_snapshot(model, process=replace(a_process(), job=job), uuids={"cuda:0": H100})
    on_gpu, on_host = rows_of(a_feed(snapshot))
    assert list(on_gpu) == list(COLUMNS)
    assert {key: on_gpu[key] for key in COLUMNS if key != "host"} == {
        "taken_at": "2026-05-28T20:26:40.000Z",
        "gpu": "0",
        "gpu_uuid": H100,
        "pid": "4711",
        "process": "ComfyUI/main.py",
        "user": "ada",
        "state": "live",
        "job": "slurm 42",
        "model_id": WAN.lower(),
        "model": WAN,
        "kind": "checkpoint",
        "class": "WanModel",
        "on_device_bytes": str(2 * GIB),
        "off_device_bytes": str(GIB),
        "layers": "145",
        "parameters": str(3 * GIB // 2),
        "dtype": "bfloat16",
        "loaded_at": "2026-05-28T20:24:40.000Z",
        "name_source": "file",
        "confidence": "0.99",
        "file": "/m/a,b.safetensors",
        "last_used_at": "",
        "last_used_by": "",
    }
    assert (on_host["gpu"], on_host["gpu_uuid"], on_host["on_device_bytes"]) == ("host", "", str(GIB))


def test_since_when_a_model_has_not_run_is_told() -> None:
    model = replace(a_model(WAN), last_used_ns=NOON_NS, last_used_by="process")
    (row,) = rows_of(a_feed(a_snapshot(model)))
    assert (row["last_used_at"], row["last_used_by"]) == ("2026-05-28T20:26:40.000Z", "process")


def test_nothing_to_show_is_the_names_of_the_columns() -> None:
    assert text(build_view(a_feed(), some_hardware(), CatalogueState()), NOON_NS) == ",".join(COLUMNS) + "\n"
    assert rows_of(a_feed(a_process_state(None))) == []


def test_a_name_is_neither_a_formula_nor_a_line_of_its_own() -> None:
    names = ["=1+1", "+a", "-b", "@c", "a\r\nb", "\x1b[31m", 'a"b', "a=b"]
    found = rows_of(a_feed(a_snapshot(*(a_model(name, GIB, id=str(number)) for number, name in enumerate(names)))))
    assert {row["model"] for row in found} == {"'=1+1", "'+a", "'-b", "'@c", "a\\x0d\\x0ab", "\\x1b[31m", 'a"b', "a=b"}
