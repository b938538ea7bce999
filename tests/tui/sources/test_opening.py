"""Tests of what is made from the directories that were chosen."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from gpumodels_tui.sources.feed import FeedState
from gpumodels_tui.sources.opening import Sources

WITHIN_SECONDS = 30.0


def test_sidecars_files_are_looked_for_in_the_chosen_directories(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir(mode=0o700)
    with closing(Sources((first, second)).feed()) as feed:
        assert feed.poll() == FeedState((first, second))


def test_without_a_choice_they_are_looked_for_where_sidecars_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path / "named"))
    with closing(Sources().feed()) as feed:
        assert feed.poll().directories == (tmp_path / "named",)


def test_whoever_asks_gets_its_own(tmp_path: Path) -> None:
    sources = Sources((tmp_path,))
    assert sources.feed() is not sources.feed()
    assert sources.hardware() is not sources.hardware()
    assert sources.catalogue() is not sources.catalogue()


def test_model_files_are_looked_for_in_the_chosen_directories_and_the_choices_problem_is_a_warning(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.safetensors")
    sources = Sources(model_directories=(tmp_path,), warnings=("config.toml: not TOML",))
    assert sources.catalogue().read_now([], WITHIN_SECONDS).warnings == (
        "config.toml: not TOML",
        f"{tmp_path}/fifo.safetensors: not a regular file (a FIFO)",
    )


def test_headers_are_kept_where_the_user_wants_it_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_at: list[Path] = []
    monkeypatch.setattr("gpumodels_tui.catalogue.cache.Cache", kept_at.append)
    Sources(cache=tmp_path / "c.sqlite").catalogue()
    Sources().catalogue()
    assert kept_at == [tmp_path / "c.sqlite"]
    assert list(tmp_path.iterdir()) == []
