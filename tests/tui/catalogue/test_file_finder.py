"""Files that are followed: which stay, and how many are looked at in one look."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest

from gpumodels_tui.catalogue import file_finder
from gpumodels_tui.catalogue.file_finder import FileFinder
from gpumodels_tui.catalogue.ledger import Ledger
from gpumodels_tui.catalogue.watches import Watches
from lost_events import lose_events
from model_files import write_model
from processes import wait_until


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was looked at."""
    seen: list[str] = []

    def is_stamped(_self: Ledger, path: str, _stamp: object) -> bool:
        seen.append(path)
        return True

    monkeypatch.setattr(Ledger, "is_stamped", is_stamped)
    return seen


def paths(*numbers: int) -> list[str]:
    return [f"/m/{number}.safetensors" for number in numbers]


def test_of_more_files_than_can_be_followed_those_go_that_nobody_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_finder, "MAX_FOLLOWED", 4)
    one = FileFinder([], Ledger(0.0, None), watched=False)
    one.follow(paths(0, 1, 2, 3))
    one.follow(paths(0))
    one.follow(paths(4, 5))
    assert set(one._followed) == set(paths(3, 0, 4, 5))
    assert set(one._uninspected) == set(one._followed)


def test_many_followed_files_are_looked_at_in_turn(monkeypatch: pytest.MonkeyPatch, looks: list[str]) -> None:
    monkeypatch.setattr(file_finder, "CHECKED_AT_ONCE", 10)
    one = FileFinder([], Ledger(0.0, None), watched=False)
    one.follow(paths(*range(25)))
    for expected in (10, 20, 25, 35):
        one._check_followed()
        assert len(looks) == expected
    assert set(looks[:25]) == set(paths(*range(25)))


def test_nobody_is_told_that_all_was_looked_at_while_a_directory_is_being_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = FileFinder([], Ledger(0.0, None), watched=False)
    one._walked = True
    one.add([str(tmp_path)])
    waiting: list[bool] = []

    def opens(_self: FileFinder, _directory: str, is_deep: bool = True) -> None:
        waiting.append(one._opening and is_deep)

    monkeypatch.setattr(FileFinder, "_open_root", opens)
    one._open_new_roots()
    assert waiting == [True]
    assert not one._opening


class Walks:
    """A finder whose walks are recorded, on a clock of the test's own; each takes as long as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.walk_seconds = 0.5
        self.walked: list[tuple[float, str]] = []
        self.finder = FileFinder([], Ledger(0.0, None), watched=False)
        self.finder._roots = {"/a": file_finder._Root(), "/b": file_finder._Root(is_deep=False)}
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr(self.finder, "_walk", self._walk)

    def _walk(self, directory: str) -> None:
        self.walked.append((self.now, directory))
        self.now += self.walk_seconds / 2

    def until(self, end: float) -> list[float]:
        """When the walks of all directories began, if the finder looks every tenth of a second until then."""
        before = len(self.walked)
        while self.now < end:
            if self.finder._is_walk_due():
                self.finder._walk_after_loss()
            self.now = round(self.now + 0.1, 3)
        assert [directory for _, directory in self.walked[before:]] == ["/a", "/b"] * ((len(self.walked) - before) // 2)
        return [at for at, _ in self.walked[before::2]]


def test_lost_reports_make_it_walk_at_once_and_once_more_when_the_watches_are_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = Walks(monkeypatch)
    assert walks.until(110.0) == []
    walks.finder._on_loss()
    assert walks.until(200.0) == [110.0, 112.5]


def test_a_flood_of_losses_leaves_it_time_between_its_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = Walks(monkeypatch)
    walks.walk_seconds = 10.0
    began = []
    for end in range(110, 310, 10):
        walks.finder._on_loss()
        began += walks.until(float(end))
    assert len(began) in (4, 5)
    assert all(later - earlier >= 50.0 for earlier, later in itertools.pairwise(began))


def test_a_file_whose_reports_were_lost_is_found_when_the_loss_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(0.0, None)
    finder = FileFinder([str(tmp_path)], ledger, watched=True)
    monkeypatch.setattr(Watches, "dispatch", lambda *_: None)  # nothing is reported
    thread = threading.Thread(target=finder.run, daemon=True)
    thread.start()
    finder.wait_until_found(time.monotonic() + 30.0)
    path = write_model(tmp_path / "new" / "a.safetensors")
    assert not ledger.knows(str(path))
    lose_events()
    wait_until(lambda: ledger.knows(str(path)), 30.0)
    finder.stop()
    thread.join(30.0)
