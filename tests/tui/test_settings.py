"""Tests of precedence: flag, environment, file, default."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from gpumodels_tui.settings import ModelDirectories, cache_path, config_path, model_directories


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def chosen(config: Path, flags: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> ModelDirectories:
    return model_directories(flags, environment or {}, config, config.parent / "home")


def test_each_stands_above_the_next(config: Path) -> None:
    hub = config.parent / "hub"
    hub.mkdir()
    environment = {"HF_HUB_CACHE": str(hub)}
    assert chosen(config, environment=environment) == ModelDirectories((hub,), False)
    config.write_text('models = ["/from/file"]')
    assert chosen(config, environment=environment) == ModelDirectories((Path("/from/file"),), True)
    environment["GPUMODELS_MODELS"] = f"/a{os.pathsep}{os.pathsep}/b"
    assert chosen(config, environment=environment) == ModelDirectories((Path("/a"), Path("/b")), True)
    assert chosen(config, ["/flag"], environment) == ModelDirectories((Path("/flag"),), True)


def test_an_empty_variable_says_nothing(config: Path) -> None:
    config.write_text('models = "/one"')
    assert chosen(config, environment={"GPUMODELS_MODELS": ""}).directories == (Path("/one"),)


def test_home_is_found_and_nobodys_home_is_a_name(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.chdir(config.parent)
    assert chosen(config, ["~/m", "~no-such-user/m"]).directories == (
        Path("/home/ada/m"),
        config.parent / "~no-such-user" / "m",
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"models = [", "the file is ignored"),
        (b"models = 3", "must be a list of directories"),
        (b'models = ["/a", 3]', "must be a list of directories"),
        (b'models = "\xff"', "the file is ignored"),
        (b"a = " + b"[" * 50_000, "the file is ignored"),
    ],
)
def test_a_file_that_cannot_be_understood_is_said_and_left_out(config: Path, content: bytes, problem: str) -> None:
    config.write_bytes(content)
    found = chosen(config)
    assert (found.directories, found.are_chosen) == ((), False)
    assert found.problem is not None
    assert found.problem.startswith(f"{config}: ")
    assert problem in found.problem


@pytest.mark.parametrize("content", [b"", b"models = []", b'other = "x"'])
def test_a_file_that_says_nothing_is_no_problem(config: Path, content: bytes) -> None:
    config.write_bytes(content)
    assert chosen(config) == ModelDirectories((), False)


def test_the_environment_says_where_the_users_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "k"))
    monkeypatch.setattr("sys.platform", "linux")
    assert config_path() == tmp_path / "c" / "gpumodels" / "config.toml"
    assert cache_path().parent == tmp_path / "k" / "gpumodels"
