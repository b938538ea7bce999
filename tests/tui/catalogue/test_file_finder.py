"""Files that are followed: which stay, and how many are looked at in one look."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_tui.catalogue import file_finder
from gpumodels_tui.catalogue.file_finder import FileFinder
from gpumodels_tui.catalogue.ledger import Ledger


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
