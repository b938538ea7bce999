"""Files that ComfyUI's nodes name, as evidence for the models that appear while they run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from comfy_executor import loaded_as_execution
from gpumodels_shared.name_sources import NameSource
from gpumodels_shared.schema import Model
from modules import Attached, a_fake, attached

WIDTH = 512
SIZE = WIDTH * WIDTH * 4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder of models."""
    module = ModuleType("folder_paths")
    module.folder_names_and_paths = {"upscale_models": ([str(tmp_path)], {".pth"})}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "folder_paths", module)
    return tmp_path


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = loaded_as_execution()
    monkeypatch.setitem(sys.modules, "execution", module)
    return module.PromptExecutor()


@pytest.fixture
def sidecar(executor: Any) -> Iterator[Attached]:
    with attached() as one:
        yield one
        assert one.failures.count == 0


class Upscaler(nn.Module):
    """A model on a device, or in host memory."""

    def __init__(self, device: str | None = None) -> None:
        super().__init__()
        weight = torch.rand(WIDTH, WIDTH) if device is None else a_fake((WIDTH, WIDTH), device, torch.float32)
        self.weight = nn.Parameter(weight)


def run(executor: Any, build: Callable[[], object], **inputs: object) -> object:
    """Run a node that builds something; what it built."""
    built: list[object] = []

    def loads(**_inputs: object) -> int:
        built.append(build())
        return 1

    prompt = str(time.time_ns())
    executor.execute({prompt: {"class_type": "UpscaleModelLoader", "function": loads, "inputs": inputs}}, prompt)
    return built[0]


def a_pickle(path: Path, size: int = SIZE) -> str:
    """A file whose values nobody saw."""
    path.write_bytes(bytes(size))
    return str(path)


def the_only(sidecar: Attached) -> Model:
    (model,) = sidecar.models()
    return model


def test_a_model_whose_values_nobody_can_compare_is_called_by_the_file_that_its_node_named(
    sidecar: Attached, executor: Any, folder: Path
) -> None:
    path = a_pickle(folder / "4x-UltraSharp.pth")
    model = run(executor, Upscaler, model_name="4x-UltraSharp.pth")
    found = the_only(sidecar)
    assert (found.name, found.name_source, found.confidence) == ("4x-UltraSharp", NameSource.NODE_INPUT, 0.65)
    assert found.files == (path,)
    assert model is not None


def test_a_file_of_another_size_is_not_the_models(sidecar: Attached, executor: Any, folder: Path) -> None:
    a_pickle(folder / "4x-UltraSharp.pth", SIZE * 5)
    model = run(executor, Upscaler, model_name="4x-UltraSharp.pth")
    assert (the_only(sidecar).name, the_only(sidecar).files) == ("Upscaler", ())
    assert model is not None


def test_of_two_models_in_one_node_neither_gets_the_name(sidecar: Attached, executor: Any, folder: Path) -> None:
    path = a_pickle(folder / "4x-UltraSharp.pth")
    models = run(executor, lambda: (Upscaler(), Upscaler()), model_name="4x-UltraSharp.pth")
    assert [(model.name, model.files, model.candidates) for model in sidecar.models()] == [("Upscaler", (), (path,))] * 2
    assert models is not None


def test_of_two_files_in_one_node_neither_gives_the_name(sidecar: Attached, executor: Any, folder: Path) -> None:
    a_pickle(folder / "one.pth")
    a_pickle(folder / "two.pth")
    model = run(executor, Upscaler, model_name="one.pth", other="two.pth")
    assert the_only(sidecar).name == "Upscaler"
    assert model is not None


def test_a_model_that_was_there_before_or_comes_later_is_not_the_nodes(sidecar: Attached, executor: Any, folder: Path) -> None:
    a_pickle(folder / "4x-UltraSharp.pth")
    before = Upscaler()
    run(executor, lambda: None, model_name="4x-UltraSharp.pth")
    after = Upscaler()
    assert [model.name for model in sidecar.models()] == ["Upscaler"] * 2
    assert before is not after


def test_values_that_differ_from_those_of_the_named_file_decide(sidecar: Attached, executor: Any, folder: Path) -> None:
    save_file({"weight": torch.rand(WIDTH, WIDTH)}, folder / "4x-UltraSharp.safetensors")
    model = run(executor, Upscaler, model_name="4x-UltraSharp.safetensors")
    assert (the_only(sidecar).name, the_only(sidecar).files) == ("Upscaler", ())
    assert model is not None


def test_values_that_a_pickle_was_seen_to_have_decide_as_well(sidecar: Attached, executor: Any, folder: Path) -> None:
    path = folder / "4x-UltraSharp.pth"
    torch.save({"weight": torch.rand(WIDTH, WIDTH)}, path)

    def builds() -> object:
        return Upscaler(), torch.load(path)["weight"]

    model = run(executor, builds, model_name="4x-UltraSharp.pth")
    assert the_only(sidecar).name == "Upscaler"
    assert model is not None


def test_a_named_file_that_was_read_unseen_is_compared(sidecar: Attached, executor: Any, folder: Path) -> None:
    path = folder / "4x-UltraSharp.safetensors"

    def builds() -> object:
        model = Upscaler()
        raw = bytearray(path.read_bytes()[-SIZE:])
        model.weight.data = torch.frombuffer(raw, dtype=torch.float32).clone().reshape(WIDTH, WIDTH)
        return model

    save_file({"weight": torch.rand(WIDTH, WIDTH)}, path)
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    model = run(executor, builds, model_name="4x-UltraSharp.safetensors")
    found = the_only(sidecar)
    assert (found.name, found.name_source, found.files) == ("4x-UltraSharp", NameSource.VALUES, (str(path),))
    assert model is not None


def test_a_model_on_a_device_is_called_by_a_pickle_too(sidecar: Attached, executor: Any, folder: Path) -> None:
    a_pickle(folder / "4x-UltraSharp.pth")
    model = run(executor, lambda: Upscaler("cuda:0"), model_name="4x-UltraSharp.pth")
    assert the_only(sidecar).name == "4x-UltraSharp"
    assert model is not None
