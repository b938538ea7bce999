"""What can be done with the demonstration's models, on real memory and on GPUs that don't exist."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from torch import nn

from gpumodels.demo.cast import ModelSpec
from gpumodels.demo.model_loader import SIMULATED_CACHE_BYTES, SIMULATED_GPU_BYTES, FileLoader, SimulatedLoader
from gpumodels.demo.models import LoRANetwork, UMT5EncoderModel, WanModel, WanSize
from modules import Attached, attached

GIB = 1024**3
TINY = WanSize(width=64, inner=128, blocks=4, text_width=32)

PARTS = {
    "high": ModelSpec("Tiny-High", "high.safetensors", torch.bfloat16, lambda: WanModel(TINY), {"model_type": "Tiny-High"}),
    "text": ModelSpec("Tiny-Encoder", "text.safetensors", torch.float16, lambda: UMT5EncoderModel(600, 64, 128, 2), device=1),
    "lora": ModelSpec("MyLoRA", "loras/lora.safetensors", torch.float16, lambda: LoRANetwork(TINY, 32), device=2),
}


def size_bytes(role: str, prefix: str = "") -> int:
    """What the model's distinct tensors take, or those below this path."""
    with torch.device("meta"):
        model: nn.Module = PARTS[role].build()
    held = [*model.named_parameters(), *model.named_buffers()]
    return sum(tensor.numel() for name, tensor in held if name.startswith(prefix)) * PARTS[role].dtype.itemsize


EVERY_SECOND_BLOCK = size_bytes("high", "blocks.0.") + size_bytes("high", "blocks.2.")


@pytest.fixture
def real(tmp_path: Path) -> FileLoader:
    model_loader = FileLoader(PARTS, tmp_path)
    model_loader.write_files()
    return model_loader


def held(sidecar: Attached) -> dict[str, tuple[dict[str, int], int]]:
    """Of each model, its bytes in memory and those that it would take to have it whole there."""
    return {one.class_name: (dict(one.bytes_by_device), one.missing_bytes) for one in sidecar.scan()}


def test_files_hold_each_models_tensors_in_its_dtype_tied_ones_once_with_its_metadata(real: FileLoader, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    for role, part in PARTS.items():
        with safetensors.safe_open(tmp_path / part.file, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no dictionary
            assert (file.metadata() or {}) == part.metadata
        assert {tensor.dtype for tensor in tensors.values()} == {part.dtype}
        assert sum(tensor.nbytes for tensor in tensors.values()) == size_bytes(role)


def test_files_are_the_same_each_time(real: FileLoader, tmp_path: Path) -> None:
    written = {role: (tmp_path / part.file).read_bytes() for role, part in PARTS.items()}
    FileLoader(PARTS, tmp_path).write_files()
    assert {role: (tmp_path / part.file).read_bytes() for role, part in PARTS.items()} == written


def test_a_real_model_is_loaded_offloaded_brought_back_and_unloaded(real: FileLoader) -> None:
    with attached() as sidecar:
        whole = size_bytes("high")
        real.load("high")
        assert held(sidecar) == {"WanModel": ({"cpu": whole}, 0)}
        real.offload_half("high")
        assert held(sidecar) == {"WanModel": ({"cpu": whole - EVERY_SECOND_BLOCK}, EVERY_SECOND_BLOCK)}
        real.bring_back("high")
        assert held(sidecar) == {"WanModel": ({"cpu": whole}, 0)}
        real.unload("high")
        assert held(sidecar) == {}


def test_what_was_offloaded_has_its_files_values_again(real: FileLoader, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    in_file = safetensors.load_file(tmp_path / PARTS["high"].file)
    real.load("high")
    real.offload_half("high")
    real.bring_back("high")
    state = real._models["high"].state_dict()
    assert state.keys() == in_file.keys()
    assert all(torch.equal(state[key], in_file[key]) for key in state)


def test_a_tied_embedding_is_loaded_once(real: FileLoader) -> None:
    with attached() as sidecar:
        real.load("text")
        assert held(sidecar) == {"UMT5EncoderModel": ({"cpu": size_bytes("text")}, 0)}


def allocated(model_loader: SimulatedLoader) -> dict[str, int]:
    """Bytes of models on each simulated GPU."""
    counted = {device: one.allocated_bytes for device, one in model_loader.counters().items() if device != "cpu"}
    return {device: size - GIB for device, size in counted.items() if size is not None}


def test_a_simulated_model_counts_where_it_likes_to_be_and_as_an_allocator_would() -> None:
    model_loader = SimulatedLoader(PARTS, gpus=2)
    for role in PARTS:
        model_loader.load(role)
    # The LoRA likes the third GPU best, which isn't there.
    assert allocated(model_loader) == {"cuda:0": size_bytes("high") + size_bytes("lora"), "cuda:1": size_bytes("text")}
    model_loader.offload_half("high")
    gc.collect()
    assert allocated(model_loader)["cuda:0"] == size_bytes("high") - EVERY_SECOND_BLOCK + size_bytes("lora")
    model_loader.bring_back("high")
    model_loader.unload("lora")
    gc.collect()
    assert allocated(model_loader) == {"cuda:0": size_bytes("high"), "cuda:1": size_bytes("text")}
    model_loader.unload("high")
    model_loader.unload("text")
    gc.collect()
    assert allocated(model_loader) == {"cuda:0": 0, "cuda:1": 0}


def test_what_is_counted_is_what_is_found_on_the_simulated_gpus() -> None:
    with attached() as sidecar:
        model_loader = SimulatedLoader(PARTS, gpus=2)
        for role in PARTS:
            model_loader.load(role)
        model_loader.offload_half("high")
        gc.collect()
        models = sidecar.models()
        assert {model.name for model in models} == {"Tiny-High", "Tiny-Encoder", "MyLoRA"}
        for device, size in allocated(model_loader).items():
            assert sum(model.bytes_by_device.get(device, 0) for model in models) == size
        (high,) = (model for model in models if model.name == "Tiny-High")
        assert high.bytes_by_device["cpu"] == EVERY_SECOND_BLOCK


def test_simulated_gpus_say_that_they_are() -> None:
    counters = SimulatedLoader({}, gpus=3).counters()
    assert list(counters) == ["cpu", "cuda:0", "cuda:1", "cuda:2"]
    assert all(counter.simulated for counter in counters.values())
    assert len({counter.uuid for counter in counters.values()}) == 4
    gpu = counters["cuda:1"]
    assert (gpu.total_bytes, gpu.allocated_bytes) == (SIMULATED_GPU_BYTES, GIB)
    assert gpu.reserved_bytes == GIB + SIMULATED_CACHE_BYTES


def test_simulated_weights_that_are_tied_take_the_memory_of_one() -> None:
    def tied() -> nn.Module:
        model = nn.ModuleDict({"embedding": nn.Embedding(100, 64), "head": nn.Linear(64, 100, bias=False)})
        model["head"].weight = model["embedding"].weight
        return model

    model_loader = SimulatedLoader({"tied": ModelSpec("Tied", "", torch.float16, tied)}, gpus=1)
    model_loader.load("tied")
    assert allocated(model_loader) == {"cuda:0": 100 * 64 * 2}
