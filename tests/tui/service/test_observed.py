"""The newest state of all sources, and what came and went since the service began."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.service.observed import Observer, observed_once
from gpumodels_tui.sources.opening import Sources
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.rows import View
from gpumodels_tui.watching import WatchingThread
from snapshots import GIB, a_feed, a_gpu, a_model, a_snapshot, published, some_hardware


class Told(WatchingThread):
    """A thread that is told by the test what it has seen."""

    def __init__(self) -> None:
        super().__init__(Sources(()))
        self.on_view: Callable[[View], None] = lambda view: None
        self.on_failure: Callable[[Exception], None] = lambda error: None

    def tell(self, on_view: Callable[[View], None], on_failure: Callable[[Exception], None]) -> None:
        self.on_view, self.on_failure = on_view, on_failure

    def see(self, *names: str) -> None:
        snapshot = a_snapshot(*(a_model(name, GIB, "lora", id=name) for name in names))
        self.seen = a_feed(snapshot), some_hardware(a_gpu()), CatalogueState()
        self.has_read_devices = True
        self.on_view(build_view(*self.seen))


def test_what_comes_and_goes_is_counted_by_kind_but_not_what_was_there() -> None:
    thread = Told()
    observer = Observer(thread)
    assert observer.observed() is None
    thread.see("a", "b")
    seen = observer.observed()
    assert seen is not None
    assert (seen.loads, seen.unloads) == ({}, {})
    thread.see("b", "c", "d")
    seen = observer.observed()
    assert seen is not None
    assert (seen.loads, seen.unloads) == ({"lora": 2}, {"lora": 1})


def test_until_the_devices_were_read_nothing_is_known() -> None:
    thread = Told()
    observer = Observer(thread)
    thread.see("a")
    thread.has_read_devices = False
    assert observer.observed() is None


def test_after_a_failure_nothing_is_known_any_more() -> None:
    thread = Told()
    observer = Observer(thread)
    thread.see("a")
    thread.on_failure(OSError("disk gone"))
    assert observer.observed() is None
    assert observer.ended.is_set()
    assert str(observer.failure) == "disk gone"


def test_everything_can_be_read_once(tmp_path: Path) -> None:
    writer = published(tmp_path, a_snapshot(a_model("wan", GIB)))
    seen = observed_once(Sources((tmp_path,)))
    writer.close()
    assert (seen.loads, seen.unloads) == (None, None)
    assert [row.name for device in seen.view.devices for row in device.models] == ["wan"]
