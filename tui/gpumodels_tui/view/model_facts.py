"""Facts about a model for the facts panel, as labelled lines, the most important first. Safe to draw."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from gpumodels_shared.name_sources import MIN_NAME_CONFIDENCE, NameSource
from gpumodels_shared.records import Record
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.schema import (
    SMALL_MODELS_ID,
    USED_BY_ALLOCATIONS,
    USED_BY_CALLS,
    USED_BY_PROCESS,
    Model,
    Snapshot,
)
from gpumodels_shared.units import describe_model, format_bytes, format_count
from gpumodels_tui.view.device_names import HOST, device_in_words
from gpumodels_tui.view.hints import ModelFacts, hints_of_model
from gpumodels_tui.view.rows import ModelRow

SOURCES: Final[Mapping[str, str]] = {
    NameSource.LABEL: "its program",
    NameSource.MAPPED_FILE: "the file that its weights are mapped from",
    NameSource.STATE_DICT: "the file that its weights were loaded from",
    NameSource.READ_FILE: "the file that was read just before it was loaded",
    NameSource.VALUES: "its values, which match the file's",
    NameSource.NAMES_AND_SHAPES: "the names and shapes of its tensors",
    NameSource.FILE_METADATA: "its file's metadata",
    NameSource.CONFIG: "its config",
    NameSource.PIPELINE: "the pipeline that it is part of",
    NameSource.ATTRIBUTE: "an attribute of the module",
    NameSource.NODE_INPUT: "the file that the node named in which it was built",
    NameSource.RECENCY: "its class; a file was read when it was loaded",
    NameSource.LEFTOVER: "the model that it is left of",
    NameSource.CLASS: "its class; no file is known",
    NameSource.PENDING: "a provisional name, until its values have been compared with all possible files",
}
"""`Model.name_source` in words; unknown sources are shown unchanged."""
SEEN_LOADED: Final = frozenset({NameSource.MAPPED_FILE, NameSource.READ_FILE})
"""The sources that follow a model's memory back to the file, as they don't for a copy."""
USES: Final[Mapping[str, str]] = {
    USED_BY_CALLS: "none of its layers was called",
    USED_BY_ALLOCATIONS: "its process has allocated nothing on any GPU",
    USED_BY_PROCESS: "its process has computed nothing",
}
"""`Model.last_used_by` in words."""
SURE: Final = 0.9
MOST_LISTED: Final = 20
MOST_NAMED: Final = 3


class Fact(Record):
    """One labelled line."""

    label: str
    value: str
    is_path: bool = False
    """If a path doesn't fit, its beginning is cut off instead of its end."""


def headline(row: ModelRow) -> str:
    """The model's name, kind and size: `Wan2_2-T2V-A14B-HIGH (checkpoint, 2.1 GB, 145 layers)`."""
    model = row.model
    name, kind = safe_text(row.name, 300), safe_text(model.kind)
    return describe_model(name, kind, model.size_bytes, model.layers, model.unread_tensors)


def facts_of(row: ModelRow) -> list[Fact]:
    """The facts about a model, from the snapshot and the model files."""
    model = row.model
    described = [
        Fact("named by", f"{SOURCES.get(model.name_source, safe_text(model.name_source))} ({_certainty(model.confidence)})")
    ]
    if model.leftover_of is not None:
        described.append(Fact("held by", "reference cycles only: it waits for Python's garbage collector"))
    if model.architecture and model.architecture != model.class_name:
        described.append(Fact("class", safe_text(f"{model.class_name} · {model.architecture}")))
    else:
        described.append(Fact("class", safe_text(model.class_name)))
    described += _files(row)
    described += _listed("could be", model.candidates, row.file_sizes)
    described.append(Fact("memory", _memory(row)))
    if model.dynamic_memory:
        described.append(Fact("paging", "dynamic VRAM: single pages come and go while it runs, which is no load"))
    described += _copies(row)
    described += _manager(row)
    described += last_use(row)
    described += _hints(row)
    described += [Fact(safe_text(label, 40), safe_text(value)) for label, value in row.facts.items()]
    if len(model.dtypes) > 1 or (model.dtypes and not row.facts):
        sizes = sorted(model.dtypes.items(), key=lambda entry: -entry[1])[:MOST_LISTED]
        described.append(Fact("dtypes", ", ".join(f"{safe_text(dtype)} {format_bytes(size)}" for dtype, size in sizes)))
    described.append(Fact("parameters", format_count(model.parameters)))
    described.append(Fact("process", safe_text(row.process) + (f" ({safe_text(row.note)})" if row.note else "")))
    if model.slot:
        described.append(Fact("slot", safe_text(model.slot)))
    if len(model.files) > 1:
        described += _listed("files", model.files, row.file_sizes)
    return described


def is_unmanaged(model: Model, snapshot: Snapshot) -> bool:
    """Whether the process has a model manager that doesn't know this model. Adapters go with their base model."""
    is_own = model.parent is None and model.leftover_of is None and model.id != SMALL_MODELS_ID
    return snapshot.model_manager is not None and model.managed_by is None and is_own


def _manager(row: ModelRow) -> list[Fact]:
    """What the process's own model manager thinks of the model, if there is one."""
    model, snapshot = row.model, row.process_state.snapshot
    if snapshot is not None and is_unmanaged(model, snapshot):
        manager = safe_text(snapshot.model_manager or "", 40)
        return [Fact("manager", f"not managed by {manager}: its 'unload models' does not free it")]
    if model.managed_by is None:
        return []
    loaded = model.managed_bytes
    said = "" if loaded is None else f", {format_bytes(loaded)} loaded by it" if loaded else ", not loaded by it now"
    return [Fact("manager", f"{safe_text(model.managed_by, 40)}{said}")]


def last_use(row: ModelRow) -> list[Fact]:
    """Since when it hasn't run, and how that is known; nothing where it isn't."""
    if row.last_used_ns is None:
        return []
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.last_used_ns // 10**9))
    known = USES.get(row.model.last_used_by or "")
    return [Fact("not run since", since if known is None else f"{since}: {known}")]


def _copies(row: ModelRow) -> list[Fact]:
    """How often the device holds what was loaded from its files: `6.0 GB in 3 copies, one of them in another process`."""
    if row.copies is None or not row.is_twice:
        return []
    others = sum(process != row.process_state.key for process, _ in row.copies.models)
    where = "" if not others else ", one of them in another process" if others == 1 else f", {others} of them in other processes"
    facts = [Fact("copies", f"{format_bytes(row.copies.bytes)} in {row.copies.count} copies from the same files{where}")]
    if row.model.name_source == NameSource.VALUES:
        facts.append(Fact("", "this one has the file's values: a copy of another one, or loaded in a way that wasn't seen"))
    elif row.model.name_source == NameSource.STATE_DICT:
        facts.append(Fact("", "this one was filled, perhaps by way of another model, with what was read from the file"))
    elif row.model.name_source in SEEN_LOADED:
        facts.append(Fact("", "this one holds what was read from the file"))
    return facts


def _hints(row: ModelRow) -> list[Fact]:
    """What costs memory without need, and what to do."""
    copies = () if row.copies is None else (row.copies,)
    lines = hints_of_model(ModelFacts(row.model, row.process_state, row.file_dtypes, copies))
    return [Fact("" if position else "hint", line) for position, line in enumerate(lines)]


def raw_metadata(row: ModelRow) -> list[Fact]:
    """The raw metadata of the snapshot and the files, sorted by key."""
    return [Fact(safe_text(key, 80), safe_text(value)) for key, value in sorted(row.metadata.items())]


def _certainty(confidence: float) -> str:
    if confidence >= SURE:
        return "sure"
    return "likely" if confidence >= MIN_NAME_CONFIDENCE else "uncertain"


def _files(row: ModelRow) -> list[Fact]:
    """One file with its size, or a summary of several files, which are listed later."""
    files = row.model.files
    if len(files) < 2:
        return _listed("file", files, row.file_sizes)
    known = [row.file_sizes[path] for path in files if path in row.file_sizes]
    size = f", {format_bytes(sum(known))}" if len(known) == len(files) else ""
    directories = {path.rpartition("/")[0] for path in files}
    directory = f" in {safe_text(directories.pop())}" if len(directories) == 1 else ""
    return [Fact("file", f"{len(files)} files{size}{directory}", True)]


def _listed(label: str, paths: tuple[str, ...], sizes: Mapping[str, int]) -> list[Fact]:
    """One line per path, with its size if that is known."""
    listed = []
    for position, path in enumerate(paths[:MOST_LISTED]):
        size = f"  {format_bytes(sizes[path])}" if path in sizes else ""
        listed.append(Fact(label if not position else "", safe_text(path) + size, True))
    if len(paths) > MOST_LISTED:
        listed.append(Fact("", f"and {len(paths) - MOST_LISTED} more"))
    return listed


def _memory(row: ModelRow) -> str:
    model = row.model
    devices = sorted(model.bytes_by_device.items(), key=lambda entry: -entry[1])[:MOST_LISTED]
    pinned = f", {format_bytes(model.pinned_bytes)} of it pinned" if model.pinned_bytes else ""
    parts = [f"{format_bytes(size)} {_on_device(row, device)}{pinned if device == 'cpu' else ''}" for device, size in devices]
    absent = model.offloaded_bytes - (model.resident_bytes - model.on_device_bytes)
    if model.asleep_in != "host":
        absent -= model.asleep_bytes
    if absent > 0:
        parts.append(f"{format_bytes(absent)} {'on disk only' if model.dynamic_memory else 'on disk or not loaded'}")
    if model.asleep_bytes:
        parts.append(_asleep(model))
    if model.imported_bytes:
        parts.append(f"{format_bytes(model.imported_bytes)} of another process, counted there")
    if model.unread_tensors:
        noun = "tensor" if model.unread_tensors == 1 else "tensors"
        parts.append(f"{model.unread_tensors} {noun} of unknown size")
    others = _sharers(row)
    if model.shared_bytes:
        parts.append(f"{format_bytes(model.shared_bytes)} more shared with {others or 'other models'}, counted there")
    elif others:
        parts.append(f"some of it shared with {others}")
    return ", ".join(parts) or "none"


def _asleep(model: Model) -> str:
    """What of it sleeps: `asleep: 13.3 GB in host memory`."""
    where = {"host": " in host memory", "disk": " on disk", "discarded": " discarded"}.get(model.asleep_in or "", "")
    return f"asleep: {format_bytes(model.asleep_bytes)}{where}"


def _on_device(row: ModelRow, device: str) -> str:
    """`on GPU 0`, `in host memory`: with the device's name in the lists, not the process's own name for it."""
    label = row.device_labels.get(device, HOST if device == "cpu" else device)
    return f"{'in' if label == HOST else 'on'} {device_in_words(safe_text(label, 40))}"


def _sharers(row: ModelRow) -> str:
    """The names of the models that share storages with this one."""
    snapshot = row.process_state.snapshot
    wanted = set(row.model.shares_with)
    names = [safe_text(model.name, 80) for model in snapshot.models if model.id in wanted] if snapshot is not None else []
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
