"""Reads everything once, and formats the plain table for `--once`. Names are never cut, since people grep for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gpumodels_shared.records import Record, replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import describe_model, format_age, format_bytes
from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.following import Following, files_named, files_seen, model_folders_in, needs_directories
from gpumodels_tui.sources.feed import FeedState
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.sources.unattached import Unattached
from gpumodels_tui.view.process_rows import NOT_ATTACHED, UnattachedRow
from gpumodels_tui.view.rows import DeviceRow, ModelRow, View

MODEL_FILES_SECONDS: Final = 2.0
"""How long to wait for the headers of model files."""

WIDEST_ALIGNED: Final = 60
"""The largest width of the first column; a longer name shifts the other columns only in its own line."""


class Snapshots(Record):
    """The state of everything at one moment."""

    feed: FeedState
    hardware: HardwareState
    catalogue: CatalogueState
    taken_at_ns: int


def glance(sources: Sources) -> Snapshots:
    """Read everything once, which takes a few heartbeats of the sidecars and at most `MODEL_FILES_SECONDS`."""
    feed = sources.feed()
    hardware = sources.hardware()
    unattached = Unattached(sources)
    try:
        state = feed.settle()
        devices = unattached.look_now(hardware.read(), state)
    finally:
        feed.close()
        hardware.close()
        unattached.stop()
    return Snapshots(state, devices, _model_files(sources, state, devices), time.time_ns())


def _model_files(sources: Sources, state: FeedState, devices: HardwareState) -> CatalogueState:
    """Read the files that the models came from or may have come from; nothing is read if there are no models."""
    must_search = needs_directories(state)
    directories = sources.model_directories if must_search else ()
    files = [*files_named(state), *files_seen(devices)]
    if not files and not directories and not (must_search and model_folders_in(state)):
        return CatalogueState(warnings=sources.warnings)
    catalogue = replace(sources, model_directories=directories).catalogue()
    Following(catalogue, with_model_folders=must_search).see(state)
    return catalogue.read_now(files, MODEL_FILES_SECONDS)


def table(view: View, now_ns: int, columns: int | None = None) -> str:
    """The table: for each device a heading, below it the models, the largest first, and the processes without a sidecar.

    Args:
        view: What is shown of everything.
        now_ns: The time, for ages.
        columns: The width that is there; a table that is wider puts each model on two lines, its name alone on the first.
    """
    titles = ("", "on dev", "off dev", "dtype", "age", "process")
    # What a filter leaves empty is no news, but where nothing is filtered, an empty GPU is.
    devices = [device for device in view.devices if device.models or device.unattached] if view.filtered_by else []
    devices = devices or list(view.devices)
    cells = {
        device.key: [
            *(_cells(row, now_ns) for row in device.models),
            *(_cells_without_sidecar(row, now_ns) for row in device.unattached),
        ]
        for device in devices
    }
    all_cells = [titles, *(one for rows in cells.values() for one in rows)]
    widths = [max(_width(row[column]) for row in all_cells) for column in range(len(titles))]
    widths[0] = max(width for row in all_cells if (width := _width(row[0])) <= WIDEST_ALIGNED)
    line = _line
    if columns is not None and max(_width(_line(row, widths)) for row in all_cells) > columns:
        line = _two_lines
    lines = [line(titles, widths)]
    for device in devices:
        lines.append(_head(device))
        lines += [line(row, widths) for row in cells[device.key]]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def _width(text: str) -> int:
    """The terminal columns that the text takes. What measures other characters than ASCII's is imported only for them."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _left(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _right(text: str, width: int) -> str:
    return " " * (width - _width(text)) + text


INDENTATION: Final = "    "

ALIGNMENT: Final[Sequence[Callable[[str, int], str]]] = (_left, _right, _right, _left, _right, lambda text, width: text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(align(cell, width) for align, cell, width in zip(ALIGNMENT, cells, widths, strict=True)).rstrip()


def _two_lines(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The name alone, which may be longer than the line as people search for it, and the rest below."""
    rest = _line(("", *cells[1:]), (len(INDENTATION) - 2, *widths[1:]))
    return f"{cells[0]}\n{rest}" if cells[0] else rest


def _head(device: DeviceRow) -> str:
    return "  ".join([device.title, *([device.state] if device.state else []), *_readings(device)])


def _readings(device: DeviceRow) -> Iterator[str]:
    """The device's known readings: `54.2 GB / 80 GB`, `87 %`, `64 °C`, `412 W`."""
    if device.used_bytes is not None or device.total_bytes is not None:
        used, total = ("?" if count is None else format_bytes(count) for count in (device.used_bytes, device.total_bytes))
        yield f"{used} / {total}" if device.total_bytes is not None else used
    if device.utilization_percent is not None:
        yield f"{device.utilization_percent} %"
    if device.temperature_celsius is not None:
        yield f"{device.temperature_celsius} °C"
    if device.power_watts is not None:
        yield f"{device.power_watts:.0f} W"


def _cells(row: ModelRow, now_ns: int) -> tuple[str, str, str, str, str, str]:
    display = describe_model(row.name, row.kind, row.model.size_bytes, row.layers, row.model.unread_tensors)
    age = format_age((now_ns - row.loaded_at_ns) / 1e9)
    process = f"{row.process} ({row.note})" if row.note else row.process
    return (display, format_bytes(row.on_bytes), format_bytes(row.off_bytes), _short_dtype(row.dtype), age, safe_text(process))


def _cells_without_sidecar(row: UnattachedRow, now_ns: int) -> tuple[str, str, str, str, str, str]:
    """`llama-server 4711, not attached: Qwen3-8B-Q4_K_M.gguf (mapped)` and the bytes that the driver counts of it."""
    number = "" if row.pid is None else f" {row.pid}"
    if row.models:
        known = "; ".join(f"{one.name} ({one.how})" for one in row.models)
        display = f"{row.program}{number}, {NOT_ATTACHED}: {known}"
    else:
        why = f" ({row.unread})" if row.unread else ""
        display = f"{row.command or 'process'}{number}, {NOT_ATTACHED}{why}"
    used = "?" if row.used_bytes is None else format_bytes(row.used_bytes)
    age = "" if row.started_at_ns is None else format_age((now_ns - row.started_at_ns) / 1e9)
    return (display, used, "", "", age, f"{row.user}{number}".strip())


def _short_dtype(dtype: str) -> str:
    """The short name that is common in file names: `bf16`, `fp32+`."""
    name = dtype.removesuffix("+")
    return SHORT_DTYPES.get(name, name) + dtype[len(name) :]


SHORT_DTYPES: Final = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "float64": "fp64",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}
