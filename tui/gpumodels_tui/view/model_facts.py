"""What is known of one model beside its row: labelled lines, most telling first. Safe to draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from gpumodels_shared.name_sources import SURE_ENOUGH, NameSource
from gpumodels_shared.safe_text import safe_text
from gpumodels_shared.units import describe_model, format_bytes, format_count
from gpumodels_tui.view.device_names import HOST, in_words
from gpumodels_tui.view.rows import ModelRow

SOURCES: Final[Mapping[str, str]] = {
    NameSource.MAPPED_FILE: "the file that its weights are mapped from",
    NameSource.STATE_DICT: "the file that its weights were loaded from",
    NameSource.READ_FILE: "the file that was read just before it",
    NameSource.VALUES: "its values, which are the file's",
    NameSource.NAMES_AND_SHAPES: "the names and shapes of its tensors",
    NameSource.FILE_METADATA: "what its file says of itself",
    NameSource.CONFIG: "its config",
    NameSource.PIPELINE: "the pipeline that it is a part of",
    NameSource.ATTRIBUTE: "an attribute of the module",
    NameSource.RECENCY: "its class; a file was read when it came",
    NameSource.CLASS: "its class; no file is known",
    NameSource.PENDING: "what it says of itself, until its values are compared with all files that may be its own",
}
"""`Model.name_source` in words; another one stands as it is."""
SURE: Final = 0.9
MOST_LISTED: Final = 20
MOST_NAMED: Final = 3


class Fact(Struct, frozen=True):
    """One labelled line."""

    label: str
    value: str
    is_path: bool = False
    """Of a path that doesn't fit, the end is worth more than the beginning."""


def headline(row: ModelRow) -> str:
    """`Wan2_2-T2V-A14B-HIGH (checkpoint, 2.1 GB, 145 layers)`."""
    model = row.model
    name, kind = safe_text(row.name, 300), safe_text(model.kind)
    return describe_model(name, kind, model.resident_bytes, model.layers, model.unread_tensors)


def facts_of(row: ModelRow) -> list[Fact]:
    """From the snapshot, then from the model files."""
    model = row.model
    described = [
        Fact("named by", f"{SOURCES.get(model.name_source, safe_text(model.name_source))} ({_certainty(model.confidence)})")
    ]
    if model.architecture and model.architecture != model.class_name:
        described.append(Fact("class", safe_text(f"{model.class_name} · {model.architecture}")))
    else:
        described.append(Fact("class", safe_text(model.class_name)))
    described += _files(row)
    described += _listed("could be", model.candidates, row.file_sizes)
    described.append(Fact("memory", _memory(row)))
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


def raw_metadata(row: ModelRow) -> list[Fact]:
    """As the files hold it."""
    return [Fact(safe_text(key, 80), safe_text(value)) for key, value in sorted(row.metadata.items())]


def _certainty(confidence: float) -> str:
    if confidence >= SURE:
        return "sure"
    return "likely" if confidence >= SURE_ENOUGH else "not known for sure"


def _files(row: ModelRow) -> list[Fact]:
    """The file with its size; of several how many, how large and where: the list comes after what is more telling."""
    files = row.model.files
    if len(files) < 2:
        return _listed("file", files, row.file_sizes)
    known = [row.file_sizes[path] for path in files if path in row.file_sizes]
    size = f", {format_bytes(sum(known))}" if len(known) == len(files) else ""
    directories = {path.rpartition("/")[0] for path in files}
    place = f" in {safe_text(directories.pop())}" if len(directories) == 1 else ""
    return [Fact("file", f"{len(files)} files{size}{place}", True)]


def _listed(label: str, paths: tuple[str, ...], sizes: Mapping[str, int]) -> list[Fact]:
    """Paths, each with its size where that is known."""
    listed = []
    for position, path in enumerate(paths[:MOST_LISTED]):
        size = f"  {format_bytes(sizes[path])}" if path in sizes else ""
        listed.append(Fact(label if not position else "", safe_text(path) + size, True))
    if len(paths) > MOST_LISTED:
        listed.append(Fact("", f"and {len(paths) - MOST_LISTED} more"))
    return listed


def _memory(row: ModelRow) -> str:
    model = row.model
    places = sorted(model.bytes_by_device.items(), key=lambda entry: -entry[1])[:MOST_LISTED]
    parts = [f"{format_bytes(size)} {_where(row, device)}" for device, size in places]
    absent = model.offloaded_bytes - (model.resident_bytes - model.on_device_bytes)
    if absent > 0:
        parts.append(f"{format_bytes(absent)} on disk or not loaded")
    if model.unread_tensors:
        noun = "tensor" if model.unread_tensors == 1 else "tensors"
        parts.append(f"{model.unread_tensors} {noun} of unknown size")
    others = _sharers(row)
    if model.shared_bytes:
        parts.append(f"{format_bytes(model.shared_bytes)} more shared with {others or 'other models'}, counted there")
    elif others:
        parts.append(f"some of it shared with {others}")
    return ", ".join(parts) or "none"


def _where(row: ModelRow, device: str) -> str:
    """`on GPU 0`, `in host memory`: as the lists call it, and not as its process does."""
    label = row.places.get(device, HOST if device == "cpu" else device)
    return f"{'in' if label == HOST else 'on'} {in_words(safe_text(label, 40))}"


def _sharers(row: ModelRow) -> str:
    """Names of the models that hold some of the same storages."""
    snapshot = row.process_state.snapshot
    wanted = set(row.model.shares_with)
    names = [safe_text(model.name, 80) for model in snapshot.models if model.id in wanted] if snapshot is not None else []
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
