"""A stand-in for ComfyUI's dynamic VRAM: a VBAR whose pages tests bring in and evict, and a model whose weights have parts of it.

It has the attributes and methods by which the sidecar asks the real ones, and no memory: its weights are fakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from modules import a_fake

MIB = 1024**2
PAGE = 32 * MIB
GPU = torch.device("cuda:0")


class ModelVBAR:
    """A range of virtual addresses on a device, of which single pages are in memory."""

    def __init__(self, pages: int, device: int = 0) -> None:
        self._ptr: int | None = 1
        self.device = device
        self.max_size = pages * PAGE
        self.offset = 0
        self.base_addr = 1 << 44
        self.flags = [0] * pages
        self.asked = 0

    def alloc(self, size: int) -> tuple[ModelVBAR, int, int]:
        """A part of it, at the next multiple of 512."""
        start = -(-self.offset // 512) * 512
        self.offset = start + size
        return self, self.base_addr + start, size

    def bring(self, *pages: int, pinned: bool = False) -> None:
        """Have these pages in memory, and no others."""
        self.flags = [(1 | 2 * pinned) if page in pages else 0 for page in range(len(self.flags))]

    def loaded_size(self) -> int:
        self.asked += 1
        return sum(flag & 1 for flag in self.flags) * PAGE

    def get_nr_pages(self) -> int:
        return len(self.flags)

    def get_residency(self) -> list[int]:
        return list(self.flags)


class HostBuffer:
    """Pinned host memory."""

    def __init__(self, size: int = 0) -> None:
        self.size = size


class Cast(nn.Module):
    """A layer whose weight is cast, or copied, to the device when it is used."""

    def __init__(self, mib: float, dtype: torch.dtype = torch.bfloat16, bias: int = 0, device: str = "cpu") -> None:
        super().__init__()
        self.weight = nn.Parameter(a_fake((int(mib * MIB) // dtype.itemsize,), device, dtype), requires_grad=False)
        self.bias = nn.Parameter(a_fake((bias // dtype.itemsize,), device, dtype), requires_grad=False) if bias else None


class Diffusion(nn.Module):
    """What a patcher calls its model: a backbone, and around it what it needs to sample."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.diffusion_model = nn.Sequential(*layers)


def staged(model: nn.Module, vbar: Any, device: Any = GPU, *, pins: bool = True) -> None:
    """Give each layer its part of the VBAR, as is done when the model is about to run."""
    state: Any = model
    state.dynamic_vbars = {device: vbar}
    state.dynamic_patchers = {1}
    if pins:
        state.dynamic_pins = {device: {"weights": (HostBuffer(), [], [-1], [0], [0], {}), "hostbufs_initialized": True}}
    for module in model.modules():
        if isinstance(module, Cast):
            parts: Any = module
            tensors = [tensor for tensor in (module.weight, module.bias) if tensor is not None]
            parts._v = vbar.alloc(sum(-(-tensor.numel() * _item(tensor) // 1024) * 1024 for tensor in tensors))
            parts._v_signature = None
            parts._pin_state = state.dynamic_pins[device] if pins else {}


def cast_to(module: Cast, dtype: torch.dtype) -> None:
    """Say to what its weights are cast on the device."""
    for tensor in (module.weight, module.bias):
        if tensor is not None:
            tensor._model_dtype = dtype  # type: ignore[attr-defined]


def ran(module: Any, device: str = "cuda:0") -> None:
    """Leave what a forward pass leaves: views of the module's part of the VBAR, which outlive the pages."""
    module._v_weight = a_fake((module._v[2],), device, torch.uint8)
    module._v_bias = None
    module._v_signature = (1, 1)


def pin(module: Any, buffer: HostBuffer, *, registered: bool = True) -> None:
    """Copy a module's weights into the buffer; a view keeps the buffer as far as it reaches by then."""
    buffer.size += module._v[2]
    module._pins = {"weights": {"pin": a_fake((buffer.size,), "cpu", torch.uint8), "registered": registered, "stack_index": 0}}
    hostbuf, stack, *_, sums, _counter, _buckets = module._pin_state["weights"]
    hostbuf.size = buffer.size
    stack.append((module, 0))
    sums[0] += module._v[2] if registered else 0


def _item(tensor: torch.Tensor) -> int:
    return int(getattr(tensor, "_model_dtype", tensor.dtype).itemsize)
