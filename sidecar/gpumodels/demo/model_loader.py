"""Loads and unloads the demo's models: from real files into memory, or as fake tensors on GPUs that don't exist."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from gpumodels.demo.cast import ModelSpec
from gpumodels.models.allocators import DeviceCounters
from gpumodels.support.torch_private import BUFFERS, PARAMETERS

GIB: Final = 1024**3
SIMULATED_GPU_BYTES: Final = 80 * GIB
SIMULATED_CACHE_BYTES: Final = GIB // 2


class ModelLoader(Protocol):
    """What can be done with the demo's models, by their roles. Each call returns when it is done."""

    def load(self, role: str) -> None: ...

    def unload(self, role: str) -> None: ...

    def offload_half(self, role: str) -> None:
        """Move every second block off its device."""
        ...

    def bring_back(self, role: str) -> None:
        """Put the blocks that were moved off back on the device."""
        ...


class FileLoader:
    """Loads files into host memory by ordinary calls of safetensors and torch. Offloaded blocks are freed and read again."""

    def __init__(self, specs: Mapping[str, ModelSpec], directory: Path) -> None:
        self._specs = specs
        self._directory = directory
        self._models: dict[str, nn.Module] = {}

    def write_files(self) -> None:
        """Write each model's file, with random weights of its own."""
        for seed, spec in enumerate(self._specs.values()):
            generator = torch.Generator().manual_seed(seed)
            with torch.device("meta"):
                shapes = {key: tensor.shape for key, tensor in _distinct(spec.build()).items()}
            tensors = {
                key: torch.empty(shape).normal_(std=0.02, generator=generator).to(spec.dtype) for key, shape in shapes.items()
            }
            path = self._directory / spec.file
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, path, dict(spec.metadata))

    def load(self, role: str) -> None:
        spec = self._specs[role]
        with torch.device("meta"):
            model = spec.build()
        weights = load_file(self._directory / spec.file)
        model.load_state_dict({key: weights[_stored_name(key)] for key in model.state_dict()}, assign=True)
        self._models[role] = model

    def unload(self, role: str) -> None:
        del self._models[role]
        gc.collect()

    def offload_half(self, role: str) -> None:
        for block in _blocks(self._models[role])[::2]:
            block.to("meta")

    def bring_back(self, role: str) -> None:
        weights = load_file(self._directory / self._specs[role].file)
        model = self._models[role]
        for name, module in model.named_modules():
            if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
                own = {key: weights[f"{name}.{key}"] for key in module.state_dict() if "." not in key}
                module.load_state_dict(own, assign=True, strict=False)


class SimulatedLoader:
    """Fake tensors that report `cuda:N` and take no memory. It counts their bytes, as a caching allocator would."""

    def __init__(self, specs: Mapping[str, ModelSpec], gpus: int) -> None:
        self._specs = specs
        self._gpus = gpus
        self._mode = FakeTensorMode()
        self._allocated = {f"cuda:{index}": 0 for index in range(gpus)}
        self._models: dict[str, nn.Module] = {}
        # Memory that no model holds, as latents and activations.
        self._latents = [self._tensor((GIB,), torch.uint8, f"cuda:{index}") for index in range(gpus)]

    def counters(self, in_use: Collection[str] = ()) -> Mapping[str, DeviceCounters]:
        """The counters of each simulated GPU. Host memory is marked as simulated too, since blocks are offloaded to it."""
        host = {"cpu": DeviceCounters(simulated=True)}
        return host | {
            device: DeviceCounters(
                allocated_bytes=allocated,
                reserved_bytes=allocated + SIMULATED_CACHE_BYTES,
                uuid=f"SIMULATED-{device.removeprefix('cuda:')}",
                name="simulated GPU, 80 GB",
                total_bytes=SIMULATED_GPU_BYTES,
                simulated=True,
            )
            for device, allocated in self._allocated.items()
        }

    def load(self, role: str) -> None:
        spec = self._specs[role]
        with torch.device("meta"):
            model = spec.build()
        model.model_name = spec.name  # type: ignore[assignment]
        self._put_on(model, self._device(role), spec.dtype)
        self._models[role] = model

    def unload(self, role: str) -> None:
        del self._models[role]
        gc.collect()

    def offload_half(self, role: str) -> None:
        for block in _blocks(self._models[role])[::2]:
            self._put_on(block, "cpu", self._specs[role].dtype)

    def bring_back(self, role: str) -> None:
        self._put_on(self._models[role], self._device(role), self._specs[role].dtype)

    def _device(self, role: str) -> str:
        return f"cuda:{self._specs[role].device % self._gpus}"

    def _put_on(self, model: nn.Module, device: str, dtype: torch.dtype) -> None:
        made: dict[int, Any] = {}  # tied weights stay tied
        for module in model.modules():
            for tensors in (vars(module)[PARAMETERS], vars(module)[BUFFERS]):
                for name, tensor in tensors.items():
                    if tensor is not None and tensor.device != torch.device(device):
                        if id(tensor) not in made:
                            made[id(tensor)] = self._tensor(tuple(tensor.shape), dtype, device)
                        is_parameter = tensors is vars(module)[PARAMETERS]
                        if is_parameter:
                            setattr(module, name, nn.Parameter(made[id(tensor)], requires_grad=False))
                        else:
                            setattr(module, name, made[id(tensor)])

    def _tensor(self, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> Any:
        fake = FakeTensor(self._mode, torch.empty(shape, dtype=dtype, device="meta"), torch.device(device))
        if device in self._allocated:
            size = fake.numel() * fake.element_size()
            self._allocated[device] += size
            weakref.finalize(fake.untyped_storage(), _free, self._allocated, device, size).atexit = False
        return fake


def _free(allocated: dict[str, int], device: str, size: int) -> None:
    allocated[device] -= size


def _distinct(model: nn.Module) -> dict[str, Any]:
    """The state dict as a file holds it, with tied weights once."""
    return {key: tensor for key, tensor in model.state_dict().items() if _stored_name(key) == key}


def _stored_name(key: str) -> str:
    """The tensor's name in the file: T5's files hold the tied embedding once, as `shared`."""
    return "shared.weight" if key == "encoder.embed_tokens.weight" else key


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks that block swapping swaps."""
    for name in ("blocks", "vace_blocks"):
        blocks = getattr(model, name, None)
        if isinstance(blocks, nn.ModuleList):
            return list(blocks)
    return list(model.children())
