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
    hub_cache,
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


def test_the_hub_cache_is_where_hugging_faces_variables_say() -> None:
    home = Path("/home/ada")
    assert hub_cache({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, home) == Path("/a")
    assert hub_cache({"HF_HOME": "~/b"}, home) == Path("/home/ada/b/hub")
    assert hub_cache({"XDG_CACHE_HOME": "/c"}, home) == Path("/c/huggingface/hub")
    assert hub_cache({}, home) == Path("/home/ada/.cache/huggingface/hub")


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
