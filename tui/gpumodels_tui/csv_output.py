"""The rows that `--csv` prints: a model on a device in each. Bytes and times are as in `--json`; what is unknown is empty."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.view.iso_times import time_text
from gpumodels_tui.view.rows import DeviceRow, ModelRow, View

COLUMNS: Final = (
    "taken_at",
    "host",
    "gpu",
    "gpu_uuid",
    "pid",
    "process",
    "user",
    "state",
    "job",
    "model_id",
    "model",
    "kind",
    "class",
    "on_device_bytes",
    "off_device_bytes",
    "layers",
    "parameters",
    "dtype",
    "loaded_at",
    "name_source",
    "confidence",
    "file",
    "last_used_at",
    "last_used_by",
)
"""They only grow, at the end."""

FORMULAS: Final = ("=", "+", "-", "@")
"""What begins so is run by spreadsheets, and names are from strangers."""


def text(view: View, taken_at_ns: int) -> str:
    """All rows, with the names of the columns first. UTF-8; no control characters but the ends of lines."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    for device in view.devices:
        for row in device.models:
            writer.writerow(_cell(value) for value in _values(device, row, taken_at_ns))
    return lines.getvalue()


def _values(device: DeviceRow, row: ModelRow, taken_at_ns: int) -> Iterator[object]:
    process, model = row.process_state, row.model
    info = None if process.snapshot is None else process.snapshot.process
    yield from (time_text(taken_at_ns), os.uname().nodename)
    yield from (device.label, device.key.removeprefix("gpu:") if device.key.startswith("gpu:GPU-") else None)
    yield from (process.shown_pid, None if info is None else info.label, process.user, process.liveness.value)
    yield None if info is None or info.job is None else info.job.id
    yield from (model.id, model.name, model.kind, model.class_name, row.on_bytes, row.off_bytes, row.layers, model.parameters)
    yield from (row.dtype, time_text(model.loaded_at_ns), model.name_source, model.confidence)
    yield model.files[0] if model.files else None
    yield from (None, None) if row.last_used_ns is None else (time_text(row.last_used_ns), model.last_used_by)


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    shown = safe_text(value, 4096)
    return f"'{shown}" if shown.startswith(FORMULAS) else shown
