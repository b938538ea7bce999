"""Tests of the directories that the settings name."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_tui.settings.directories import ModelDirectories, cache_path, config_path, config_paths, model_directories


def test_without_a_choice_the_default_model_folders_are_searched(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    environment = {"HF_HUB_CACHE": str(hub)}
    assert model_directories([], environment, tmp_path / "home") == ModelDirectories((hub,), False)
    assert model_directories([""], environment, tmp_path / "home") == ModelDirectories((hub,), False)
    assert model_directories(["/a", "", "/b"], environment) == ModelDirectories((Path("/a"), Path("/b")), True)


def test_home_is_found_and_nobodys_home_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.chdir(tmp_path)
    assert model_directories(["~/m", "~no-such-user/m"], {}).directories == (
        Path("/home/ada/m"),
        tmp_path / "~no-such-user" / "m",
    )


def test_the_environment_says_where_the_users_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "k"))
    monkeypatch.setattr("sys.platform", "linux")
    assert config_path() == tmp_path / "c" / "gpumodels" / "config.toml"
    assert config_paths() == (config_path(), Path("/etc/gpumodels/config.toml"))
    assert cache_path().parent == tmp_path / "k" / "gpumodels"
