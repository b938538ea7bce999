"""Tests of where model files lie by themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_tui.catalogue.model_folders import (
    comfyui_model_folders,
    comfyui_root,
    default_model_folders,
    extra_model_paths,
)
from gpumodels_tui.following import model_folders_of
from snapshots import a_process, a_process_state, a_snapshot


def a_comfyui(root: Path) -> Path:
    (root / "comfy").mkdir(parents=True)
    (root / "models").mkdir()
    for name in ("main.py", "folder_paths.py"):
        (root / name).touch()
    return root


def test_what_exists_is_looked_through_by_itself(tmp_path: Path) -> None:
    assert default_model_folders({}, tmp_path) == []
    hub = tmp_path / ".cache" / "huggingface" / "hub"
    hub.mkdir(parents=True)
    comfyui = a_comfyui(tmp_path / "ComfyUI")
    assert default_model_folders({}, tmp_path) == [hub, comfyui / "models"]


def test_the_hub_cache_is_where_hugging_faces_variables_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("new", "old", "home/hub"):
        (tmp_path / name).mkdir(parents=True)
    environment = {
        "DISK": str(tmp_path),
        "HF_HOME": "~/home",
        "HUGGINGFACE_HUB_CACHE": "${DISK}/old",
        "HF_HUB_CACHE": "$DISK/new",
    }
    assert default_model_folders(environment, tmp_path) == [tmp_path / "new"]
    del environment["HF_HUB_CACHE"]
    assert default_model_folders(environment, tmp_path) == [tmp_path / "old"]
    del environment["HUGGINGFACE_HUB_CACHE"]
    assert default_model_folders(environment, tmp_path) == [tmp_path / "home" / "hub"]
    monkeypatch.chdir(tmp_path)
    assert default_model_folders({"HF_HUB_CACHE": "old"}, tmp_path) == [tmp_path / "old"]


@pytest.mark.parametrize("value", ["", "\0", "/nowhere", "x" * 5000])
def test_a_hub_cache_that_is_no_directory_is_not_looked_through(tmp_path: Path, value: str) -> None:
    assert default_model_folders({"HF_HUB_CACHE": value}, tmp_path) == []


@pytest.mark.parametrize("command", [["python", "main.py", "--cpu"], ["python", "-s", "main.py"], ["python", "./main.py"]])
def test_a_comfyui_is_found_beside_its_main_file(tmp_path: Path, command: list[str]) -> None:
    assert comfyui_root(command, a_comfyui(tmp_path)) == tmp_path


def test_another_main_file_is_no_comfyui(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    assert comfyui_root(["python", "main.py"], tmp_path) is None
    assert comfyui_root(["python", "train.py"], a_comfyui(tmp_path / "c")) is None
    assert comfyui_root(["python", "\0main.py"], tmp_path) is None


def test_its_yaml_names_more_directories(tmp_path: Path) -> None:
    root = a_comfyui(tmp_path / "ComfyUI")
    for place in ("a1111/models/Stable-diffusion", "a1111/models/VAE", "a1111/embeddings", "beside"):
        (tmp_path / place).mkdir(parents=True)
    (root / "extra_model_paths.yaml").write_text(
        f"a111:\n    base_path: {tmp_path}/a1111\n    is_default: true\n    checkpoints: models/Stable-diffusion\n"
        "    vae: |\n        models/VAE\n        embeddings\n        models/missing\n"
        "other:\n    loras: ../beside\n    broken: 7\nempty:\n"
    )
    assert comfyui_model_folders(root, ()) == [
        root / "models",
        tmp_path / "a1111/models/Stable-diffusion",
        tmp_path / "a1111/models/VAE",
        tmp_path / "a1111/embeddings",
        tmp_path / "beside",
    ]


def test_only_the_base_path_is_expanded_and_lines_are_joined_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KIND", "expanded")
    (tmp_path / "extra.yaml").write_text(
        "one:\n    base_path: ~/$KIND\n    vae: $KIND/vae\n    loras: ~/loras\n"
        "    clip: |\n        with spaces  \n        /absolute\n"
        "two:\n    vae: $KIND\n    loras: ~\n    clip: ~/clip\n"
        "three:\n    base_path: beside\n    vae: vae\n"
        "four:\n    base_path: ''\n    vae: vae\n"
    )
    base = tmp_path / "home" / "expanded"
    assert extra_model_paths(tmp_path / "extra.yaml") == [
        base / "$KIND" / "vae",
        base / "~" / "loras",
        base / "with spaces  ",
        Path("/absolute"),
        tmp_path / "$KIND",
        tmp_path / "~" / "clip",
        tmp_path / "beside" / "vae",
        tmp_path / "vae",
    ]


def test_its_flags_name_files_and_a_base_directory(tmp_path: Path) -> None:
    root = a_comfyui(tmp_path / "ComfyUI")
    (tmp_path / "base" / "models").mkdir(parents=True)
    (tmp_path / "loras").mkdir()
    (tmp_path / "x.yaml").write_text(f"s:\n  loras: {tmp_path}/loras\n")
    arguments = ["--extra-model-paths-config", str(tmp_path / "x.yaml"), "--cpu", f"--base-directory={tmp_path}/base"]
    assert comfyui_model_folders(root, arguments) == [tmp_path / "base" / "models", tmp_path / "loras"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- a\n- b",
        b"a: [",
        b"a: !!python/object/apply:os.abort []",
        b"[" * 20_000,
        b"\xff\xfe",
        b"x" * 70_000,
        b'a:\n  b: "\\0"',
    ],
)
def test_a_yaml_file_that_is_none_names_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "extra_model_paths.yaml"
    path.write_bytes(content)
    assert extra_model_paths(path) == []


def test_a_live_process_in_a_comfyui_shows_the_way_to_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(a_comfyui(tmp_path))
    snapshot = a_snapshot(process=a_process(pid=os.getpid(), command=["python", "main.py"]))
    assert model_folders_of(a_process_state(snapshot)) == [tmp_path / "models"]
    assert model_folders_of(a_process_state(snapshot, Liveness.DEAD)) == []
    assert model_folders_of(a_process_state(snapshot, is_local=False)) == []
    assert model_folders_of(a_process_state(snapshot, pid=2**22 + 1)) == []
