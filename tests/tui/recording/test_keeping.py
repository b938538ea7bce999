"""The ring beside a service: a moment every so often, and a warning when it fails."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.recording import keeping
from gpumodels_tui.recording.keeping import RingKeeper
from gpumodels_tui.recording.reading import read_recording
from gpumodels_tui.recording.ring import ring_files
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.watching import WatchingThread
from processes import wait_until
from recordings import holding
from snapshots import some_hardware


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(keeping, "EVERY_SECONDS", 0.01)
    return SimpleNamespace(seen=(holding("a"), some_hardware(), CatalogueState()), has_read_devices=True)


def test_it_keeps_the_ring_and_ends_with_what_happened_last(thread: Any, tmp_path: Path) -> None:
    keeper = RingKeeper(cast("WatchingThread", thread), tmp_path / "history", pytest.fail)
    keeper.moments.see(build_view(*thread.seen))
    keeper.start()
    wait_until(lambda: (tmp_path / "history").exists() and bool(ring_files(tmp_path / "history")))
    thread.seen = (holding("a", "b"), some_hardware(), CatalogueState())
    keeper.moments.see(build_view(*thread.seen))
    keeper.stop()
    recording = read_recording(ring_files(tmp_path / "history"))
    assert {event.name for event in recording.events if event.model_key} == {"a", "b"}


def test_what_fails_is_said_once(thread: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "history").write_text("a file")
    warnings: list[str] = []
    keeper = RingKeeper(cast("WatchingThread", thread), tmp_path / "history", warnings.append)
    keeper.moments.see(build_view(*thread.seen))
    keeper.start()
    wait_until(lambda: bool(warnings))
    keeper.stop()
    (warning,) = warnings
    assert warning.startswith(f"no history is kept in {tmp_path}/history: ")
