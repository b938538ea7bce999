"""Hosts that bound torch's functions before the sidecar was started: `from torch.utils import swap_tensors`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import load as torch_load
from torch import nn, save, serialization
from torch.utils import swap_tensors

from host_unchanged.observing import bits, outcome, scanned
from host_unchanged.table import program


def _two_models() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(1)
    return nn.Linear(8, 8), nn.Linear(8, 8)


def _loaded(kind: str) -> nn.Module:
    source, model = _two_models()
    if kind == "safetensors":
        save_file(source.state_dict(), "source.safetensors")
        model.load_state_dict(load_file("source.safetensors"), assign=True)
    elif kind == "torch":
        save(source.state_dict(), "source.pt")
        model.load_state_dict(torch_load("source.pt"), assign=True)
    elif kind == "mapped":
        save(source.state_dict(), "source.pt")
        model.load_state_dict(torch_load("source.pt", mmap=True), assign=True)
    else:
        model.load_state_dict(source.state_dict())
    scanned()
    return model


def _swapped(model: nn.Module) -> Any:
    results = []
    for parameter in list(model.parameters()):
        other = nn.Parameter(torch.full_like(parameter, 3.0))
        results.append(outcome(swap_tensors, parameter, other))
        results.append(bits([parameter, other]))
    return results


def _moved(model: nn.Module) -> Any:
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        before = [id(parameter) for parameter in model.parameters()]
        moved = outcome(lambda: model.to(torch.float16).to(torch.float64))
        kept = before == [id(parameter) for parameter in model.parameters()]
        return [moved, kept, bits(model)]
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


@program
def swap_loaded_from_safetensors() -> Any:
    return _swapped(_loaded("safetensors"))


@program
def swap_loaded_by_torch() -> Any:
    return _swapped(_loaded("torch"))


@program
def swap_mapped_by_torch() -> Any:
    return _swapped(_loaded("mapped"))


@program
def swap_copied_values() -> Any:
    return _swapped(_loaded("copied"))


@program
def swap_after_stop() -> Generator[None, None, Any]:
    models = [_loaded(kind) for kind in ("safetensors", "torch", "mapped", "copied")]
    yield
    return [_swapped(model) for model in models]


@program
def move_after_stop_by_swapping() -> Generator[None, None, Any]:
    models = [_loaded(kind) for kind in ("safetensors", "torch", "mapped", "copied")]
    yield
    return [_moved(model) for model in models]


@program
def module_to_by_swapping() -> Any:
    return [_moved(_loaded(kind)) for kind in ("safetensors", "torch", "mapped", "copied")]


@program
def load_state_dict_by_swapping() -> Any:
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model = _loaded("safetensors")
        return [outcome(model.load_state_dict, load_file("source.safetensors")), bits(model)]
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


@program
def bound_functions_are_torchs_own() -> Any:
    import safetensors.torch

    return [
        torch_load is torch.load,
        torch.load is serialization.load,
        save is torch.save,
        torch.save is serialization.save,
        swap_tensors is torch.utils.swap_tensors,
        load_file is safetensors.torch.load_file,
        torch.load.__globals__ is vars(serialization),
    ]


@program
def weak_references_to_loaded_parameters() -> Any:
    import weakref

    counts: list[Any] = []
    for kind in ("safetensors", "torch", "mapped", "copied"):
        model = _loaded(kind)
        counts.append([weakref.getweakrefcount(each) for each in model.parameters()])
        counts.append([sorted(vars(each)) for each in model.parameters()])
        counts.append([each._backward_hooks is None for each in model.parameters()])
    return counts
