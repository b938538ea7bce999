"""Model folders, what is kept of them, and the kernel's limits."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gpumodels_tui.catalogue.cache import Cache
from gpumodels_tui.doctor import model_folders
from machines import a_machine, found, statuses


def test_folders_that_can_be_read_pass_and_others_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    missing = tmp_path / "none"
    assert found(model_folders.folders, a_machine(models=[tmp_path, missing, tmp_path / "file"])) == [
        ("PASS", f"{tmp_path} can be read"),
        ("WARN", f"{missing}: no such file or directory"),
        ("WARN", f"{tmp_path / 'file'}: not a directory"),
    ]


def test_without_folders_it_passes_and_a_broken_configuration_warns() -> None:
    assert statuses(model_folders.folders, a_machine()) == ["PASS"]
    said = found(model_folders.folders, a_machine(warnings=["config.toml: not TOML; the file is ignored"]))
    assert said[0] == ("WARN", "config.toml: not TOML; the file is ignored")


def test_a_cache_that_works_or_is_not_there_yet_passes(tmp_path: Path) -> None:
    path = tmp_path / "a" / "cache.sqlite"
    assert statuses(model_folders.cache, a_machine()) == ["PASS"]
    assert found(model_folders.cache, a_machine(cache=path)) == [("PASS", f"{path} doesn't exist yet")]
    made = Cache(path)
    made.look_up([])
    made.look_up_matches([b"a"])
    made.close()
    ((status, text),) = found(model_folders.cache, a_machine(cache=path))
    assert status == "PASS"
    assert "keeps the headers of 0 files" in text


def test_a_cache_that_is_damaged_or_not_ours_or_cannot_be_made_warns(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"no database, but long enough to be looked at" * 100)
    path.chmod(0o600)
    before = path.read_bytes()
    assert "is damaged" in found(model_folders.cache, a_machine(cache=path))[0][1]
    assert path.read_bytes() == before
    path.chmod(0o666)
    assert "is not your own file" in found(model_folders.cache, a_machine(cache=path))[0][1]
    assert "can't be made" in found(model_folders.cache, a_machine(cache=path / "below" / "cache.sqlite"))[0][1]


def test_a_cache_that_another_program_made_otherwise_warns(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (a)")
    connection.close()
    path.chmod(0o600)
    assert statuses(model_folders.cache, a_machine(cache=path)) == ["WARN"]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name in ("a", "b/c", "d"):
        (tmp_path / "models" / name).mkdir(parents=True)
    (tmp_path / "models" / "loop").symlink_to(tmp_path)
    return tmp_path / "models"


def limits(directory: Path, watches: int, instances: int) -> Path:
    """A /proc with these limits."""
    place = directory / "proc" / "sys" / "fs" / "inotify"
    place.mkdir(parents=True, exist_ok=True)
    (place / "max_user_watches").write_text(f"{watches}\n")
    (place / "max_user_instances").write_text(f"{instances}\n")
    return directory / "proc"


def test_limits_above_what_is_needed_pass(tmp_path: Path, models: Path) -> None:
    ((status, text),) = found(model_folders.inotify, a_machine(models=[models], proc=limits(tmp_path, 5, 2)))
    assert (status, text.startswith("5 directories of model folders")) == ("PASS", True)


def test_limits_below_what_is_needed_warn(tmp_path: Path, models: Path) -> None:
    few = list(model_folders.inotify(a_machine(models=[models], proc=limits(tmp_path, 4, 1))))
    assert [finding.status.value for finding in few] == ["WARN", "WARN"]
    assert few[0].next_step == "Run: sudo sysctl fs.inotify.max_user_watches=16"
    assert few[1].next_step == "Run: sudo sysctl fs.inotify.max_user_instances=4"


def test_counting_ends_in_time_and_says_so(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_folders, "COUNT_SECONDS", -1.0)
    ((_, text),) = found(model_folders.inotify, a_machine(models=[models], proc=limits(tmp_path, 9, 9)))
    assert text.startswith("1 or more directories")


def test_a_system_without_inotify_passes(tmp_path: Path) -> None:
    assert statuses(model_folders.inotify, a_machine(proc=tmp_path)) == ["PASS"]
