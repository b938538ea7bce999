"""Tests of the directories that the settings name."""

from __future__ import annotations

import sys
from pathlib import Path

import platformdirs
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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is asked itself")
@pytest.mark.parametrize("value", [None, "", " ", "/c", " /c ", "c/d", "~/c"])
def test_on_linux_the_directories_are_those_of_platformdirs(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert config_path().parent == platformdirs.user_config_path("gpumodels", appauthor=False)
    assert cache_path().parent == platformdirs.user_cache_path("gpumodels", appauthor=False)
