"""Recordings for tests: moments a second apart, written by the writer that `record` uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.recording.files import create
from gpumodels_tui.recording.state_document import StateDocuments
from gpumodels_tui.recording.writing import RecordingWriter
from gpumodels_tui.sources.feed import FeedState
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.changes import Changes
from snapshots import GIB, NOON_NS, a_feed, a_model, a_process_state, a_snapshot, some_hardware

SECOND_NS: Final = 10**9
Moment = tuple[float, FeedState]
"""Seconds after noon, and what the files said."""


def holding(*names: str) -> FeedState:
    """A process with these models, a gigabyte each."""
    return a_feed(a_process_state(a_snapshot(*(a_model(name, GIB) for name in names))))


def a_recording(
    path: Path, moments: Sequence[Moment], *, hardware: HardwareState | None = None, catalogue: CatalogueState | None = None
) -> Path:
    """A file with these moments."""
    writer = RecordingWriter(create(path), 2**30, 1.0)
    documents, changes = StateDocuments(2**20), Changes()
    for number, (seconds, feed) in enumerate(moments):
        at_ns = NOON_NS + int(seconds * SECOND_NS)
        sources = feed, hardware or some_hardware(), catalogue or CatalogueState()
        view = build_view(*sources)
        events = changes.see(view, at_ns) or (changes.earlier(0) if number == 0 else [])
        used = {device.key: device.used_bytes for device in view.devices if device.used_bytes is not None}
        assert writer.write(at_ns, documents.document(*sources, seconds), events, used)
    writer.close()
    return path
