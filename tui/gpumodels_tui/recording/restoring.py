"""From a recording's document back to what the sources said. The document may be anybody's: all of it is checked."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from gpumodels_shared.decoding import DecodeError, decode_without_trees
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import replace
from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.catalogue.facts import CatalogueState, FileFacts
from gpumodels_tui.recording.lines import RecordingError
from gpumodels_tui.recording.merge_patch import Document
from gpumodels_tui.sources.feed import FeedState, ProcessState, Unreadable
from gpumodels_tui.sources.figures import MOST_PID
from gpumodels_tui.sources.gpu_reading import GpuReading
from gpumodels_tui.sources.gpus import GpuProcess, HardwareState

MOST_PROCESSES: Final = 4096
MOST_BYTES: Final = 2**62
NUMBERS: Final = (
    "index",
    "total_bytes",
    "used_bytes",
    "utilization_percent",
    "temperature_celsius",
    "power_watts",
    "lost_at_ns",
    "parent_index",
)


class _Process(Struct):
    path: str
    pid: int
    user: str
    liveness: Liveness
    snapshot: dict[str, Any] | None = None
    snapshot_at_ns: int | None = None
    problem: str | None = None
    is_local: bool = True
    outer_pid: int | None = None
    late_seconds: float | None = None
    late_since_first_seen: bool = False
    trees: dict[str, str] = msgspec.field(default_factory=dict)


class _Hardware(Struct):
    gpus: tuple[GpuReading, ...] = ()
    host_total_bytes: int | None = None
    host_used_bytes: int | None = None
    problems: tuple[str, ...] = ()
    running: tuple[GpuProcess, ...] = ()
    pids_are_ours: bool = True


_NOTHING: Final[Document] = {}
Sources = tuple[FeedState, HardwareState, CatalogueState]


class Restorer:
    """Restores document after document; what is the identical object in both is restored once."""

    def __init__(self) -> None:
        self._processes: dict[str, tuple[Document, ProcessState]] = {}
        self._files: tuple[Document, tuple[str, ...], CatalogueState] | None = None
        self._hardware: tuple[Document, HardwareState] | None = None

    def restore(self, document: Document) -> Sources:
        """What the sources said.

        Raises:
            RecordingError: the document is damaged.
        """
        try:
            return self._restore(document)
        except (msgspec.ValidationError, DecodeError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise RecordingError(f"a moment can't be read: {safe_text(str(error), 160)}") from error

    def _restore(self, document: Document) -> Sources:
        processes, hardware, files = (_object(document, name) for name in ("processes", "hardware", "files"))
        if len(processes) > MOST_PROCESSES:
            raise RecordingError(f"more than {MOST_PROCESSES} processes")
        known = self._processes
        self._processes = {
            key: known[key] if key in known and known[key][0] is one else (one, _process(key, one))
            for key, one in processes.items()
        }
        feed = FeedState(
            tuple(map(Path, msgspec.convert(document.get("directories", ()), tuple[str, ...]))),
            tuple(state for _, state in self._processes.values()),
            tuple(
                Unreadable(Path(path), reason)
                for path, reason in msgspec.convert(document.get("unreadable", ()), tuple[tuple[str, str], ...])
            ),
        )
        if self._hardware is None or self._hardware[0] is not hardware:
            self._hardware = hardware, _hardware(hardware)
        warnings = msgspec.convert(document.get("warnings", ()), tuple[str, ...])
        if self._files is None or self._files[0] is not files or self._files[1] != warnings:
            self._files = files, warnings, _catalogue(files, warnings)
        return feed, self._hardware[1], self._files[2]


def _object(document: Document, name: str) -> Document:
    """The object under this name, itself."""
    value = document.get(name)
    if value is None:
        return _NOTHING
    if not isinstance(value, dict):
        raise RecordingError(f"{name} is no object")
    return value


def _process(key: str, document: Document) -> ProcessState:
    read = msgspec.convert(document, _Process)
    snapshot = None
    if read.snapshot is not None:
        models = msgspec.convert(read.snapshot.get("models", {}), dict[str, Any])
        order = msgspec.convert(read.snapshot.get("order", ()), tuple[str, ...])
        if set(order) != set(models):
            raise RecordingError("models are missing")
        listed = {name: value for name, value in read.snapshot.items() if name != "order"}
        listed["models"] = [models[id] for id in dict.fromkeys(order)]
        snapshot, _ = decode_without_trees(msgspec.msgpack.encode(listed))
    numbers = (read.pid, read.outer_pid or 0, read.snapshot_at_ns or 0, read.late_seconds or 0)
    if any(not 0 <= number < MOST_BYTES for number in numbers) or read.pid > MOST_PID:
        raise RecordingError("a process has an impossible number")
    return ProcessState(
        key=key,
        path=Path(read.path),
        pid=read.pid,
        user=safe_text(read.user, 80),
        liveness=read.liveness,
        snapshot=snapshot,
        snapshot_at_ns=read.snapshot_at_ns,
        problem=None if read.problem is None else safe_text(read.problem),
        is_local=read.is_local,
        trees=dict(_trees(read.trees)),
        outer_pid=read.outer_pid,
        late_seconds=read.late_seconds,
        late_since_first_seen=read.late_since_first_seen,
        may_lack_trees=True,
    )


def _trees(texts: Mapping[str, str]) -> list[tuple[str, bytes]]:
    try:
        return [(id, base64.b64decode(text, validate=True)) for id, text in texts.items()]
    except binascii.Error as error:
        raise RecordingError("a layer tree is damaged") from error


def _hardware(document: Document) -> HardwareState:
    read = msgspec.convert(document, _Hardware, str_keys=True)
    for gpu in read.gpus:
        values = [getattr(gpu, name) for name in NUMBERS]
        values += [*gpu.processes, *gpu.processes.values(), *gpu.nameless.values()]
        _check(values)
    _check([read.host_total_bytes, read.host_used_bytes, *(one.started_at_ns for one in read.running)])
    outside = [model for one in read.running for model in one.outside.models]
    _check([number for model in outside for number in (model.file_bytes, model.mapped_bytes)])
    if any(not model.files and not model.stated for model in outside):
        raise RecordingError("a model of a process is nothing")
    gpus = tuple(
        replace(gpu, uuid=safe_text(gpu.uuid, 100), name=safe_text(gpu.name, 100), lost=gpu.lost and safe_text(gpu.lost))
        for gpu in read.gpus
    )
    running = {one.pid: one for one in read.running}
    return HardwareState(gpus, read.host_total_bytes, read.host_used_bytes, read.problems, running, read.pids_are_ours)


def _catalogue(files: Document, warnings: tuple[str, ...]) -> CatalogueState:
    facts = msgspec.convert(files, dict[str, FileFacts])
    for one in facts.values():
        _check([one.size_bytes, one.modified_ns, one.tensors, one.rank, *one.dtypes.values()])
    return CatalogueState({path: one for one in facts.values() for path in (one.path, *one.aliases)}, warnings)


def _check(numbers: list[int | float | None]) -> None:
    if any(number is not None and not (math.isfinite(number) and 0 <= number < MOST_BYTES) for number in numbers):
        raise RecordingError("a figure is impossible")
