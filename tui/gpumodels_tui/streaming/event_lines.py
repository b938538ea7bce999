"""The lines of `--follow`, one JSON object each. Every key of a type is always there; unknown is null. See docs/follow.md."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Final

from gpumodels_tui.json_output import Json, stage_document
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.streaming.stage_events import StageEvent
from gpumodels_tui.view.changes import model_rows
from gpumodels_tui.view.device_names import HOST
from gpumodels_tui.view.events import Event, EventKind
from gpumodels_tui.view.iso_times import time_text
from gpumodels_tui.view.model_naming import PENDING_MARK
from gpumodels_tui.view.rows import ModelRow, View

SCHEMA: Final = 1
ENDS: Final = frozenset({EventKind.EXITED, EventKind.DIED})


class EventLines:
    """Numbers the lines, and knows the processes and models of the last two views, whose names and sizes events lack."""

    def __init__(self) -> None:
        self.number = 0
        """Of the last line."""
        self._processes: Mapping[str, ProcessState] = {}
        self._models: Mapping[str, ModelRow] = {}
        self._present: tuple[Mapping[str, ProcessState], Mapping[str, ModelRow]] = ({}, {})

    def see(self, view: View) -> None:
        """From now on, events are between the view before and this one."""
        processes, models = self._present
        known = (*view.processes, *view.failed_and_exited)
        self._present = {process.key: process for process in known}, model_rows(view)
        self._processes, self._models = {**processes, **self._present[0]}, {**models, **self._present[1]}

    def knows(self, event: Event) -> bool:
        """Whether its model, or its process, is in one of the last two views."""
        return event.model_key in self._models if event.model_key is not None else event.process_key in self._processes

    def began(self) -> bytes:
        """The first line."""
        return self._line("stream", "began", time.time_ns(), {"schema": SCHEMA, "host": os.uname().nodename})

    def state(self, document: Json) -> bytes:
        """The `--json` document."""
        return self._line("state", "state", time.time_ns(), {"document": document})

    def of_stage(self, event: StageEvent) -> bytes:
        """A node, or another part of the host's work."""
        return self._line(
            "stage", event.event, event.at_ns, {**_process(event.process, None), "stage": stage_document(event.stage)}
        )

    def of(self, event: Event) -> bytes | None:
        """An event of a process, a model or a device, in the words of the timeline.

        None for a name that stays as it is, while it isn't waited for any more.
        """
        if event.kind is EventKind.RENAMED and _final(event.name) == _final(event.previous_name):
            return None
        process = self._processes.get(event.process_key or "")
        about = _process(process, event)
        if event.model_key is not None:
            about |= _model(self._models.get(event.model_key), event) | _device(event)
            about["bytes"] = event.size_bytes or None
            return self._line("model", event.kind.value, event.at_ns, about)
        held: Json = [{"name": name, "bytes": size} for name, size in event.held]
        if event.kind is EventKind.OUT_OF_MEMORY:
            about |= _device(event) | {"times": event.times, "reserved_bytes": event.size_bytes or None, "models": held}
            return self._line("device", event.kind.value, event.at_ns, about)
        about |= {"models_bytes": event.size_bytes if event.kind in ENDS else None, "models": held}
        return self._line("process", event.kind.value, event.at_ns, about)

    def _line(self, kind: str, event: str, at_ns: int, rest: Mapping[str, Json]) -> bytes:
        self.number += 1
        return as_line({"seq": self.number, "at": time_text(at_ns), "type": kind, "event": event, **rest})


def lag_line(dropped: int, last: int) -> bytes:
    """What stands where lines were dropped, because their reader was slow.

    Args:
        dropped: How many.
        last: The number of the last of them.
    """
    return as_line({"seq": last, "at": time_text(time.time_ns()), "type": "stream", "event": "lag", "dropped": dropped})


def as_line(entry: Mapping[str, Json]) -> bytes:
    """One line of ASCII: nothing in it can steer a terminal, or end the line."""
    return (json.dumps(entry, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f") + "\n").encode()


def _process(process: ProcessState | None, event: Event | None) -> dict[str, Json]:
    snapshot = None if process is None else process.snapshot
    return {
        "pid": None if process is None else process.shown_pid,
        "process": snapshot.process.label if snapshot is not None else None if event is None else event.process,
        "user": None if process is None else process.user,
    }


def _model(row: ModelRow | None, event: Event) -> dict[str, Json]:
    model = None if row is None else row.model
    return {
        "model": _final(event.name) if model is None else model.name,
        "previous_name": _final(event.previous_name) or None,
        "id": None if model is None else model.id,
        "kind": None if model is None else model.kind,
        "class": None if model is None else model.class_name,
        "name_source": None if model is None else str(model.name_source),
        "confidence": None if model is None else model.confidence,
        "files": [] if model is None else list(model.files),
    }


def _final(name: str) -> str:
    """The name, whether or not a better one is still looked for."""
    return name.removesuffix(PENDING_MARK)


def _device(event: Event) -> dict[str, Json]:
    """Its short name, as the screens have it (`0`, `host`), and the driver's UUID if that is known."""
    key = event.device_key or ""
    uuid = key.removeprefix("gpu:") if key.startswith("gpu:") else None
    return {"device": event.device or (HOST if key == HOST else None), "uuid": uuid}
