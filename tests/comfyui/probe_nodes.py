"""Nodes of our own in the tests' ComfyUI: what a model truly holds, and what a sampler does before its first step.

Copied into the custom nodes of a temporary base directory. Keeps no model.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import torch

TRUTH: dict[str, int] = {}
PAGE_BYTES = 32 * 1024**2


def bytes_of(*tensors: Any) -> int:
    """Of these tensors' storages, each once."""
    return sum({id_of(tensor): tensor.untyped_storage().nbytes() for tensor in tensors if tensor.device.type != "meta"}.values())


def id_of(tensor: Any) -> int:
    """Of the tensor's storage."""
    return int(tensor.untyped_storage()._cdata)


class Truth:
    """Notes how many bytes a model's module holds, and its patches."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "note"
    OUTPUT_NODE = True
    CATEGORY = "gpumodels"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"source": ("*", {}), "label": ("STRING", {"default": ""})}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: dict[str, Any]) -> bool:
        return True

    def note(self, source: Any, label: str) -> dict[str, Any]:
        for attribute in ("patcher", "control_model_wrapped"):
            source = getattr(source, attribute, None) or source
        module = source.model
        TRUTH[label] = bytes_of(*module.parameters(), *module.buffers())
        return {"ui": {"text": [json.dumps(TRUTH)]}, "result": (json.dumps(TRUTH),)}


class Memory:
    """Notes where the memory of all models that ComfyUI manages is, by its own figures and torch's."""

    RETURN_TYPES = ("STRING",)
    FUNCTION = "note"
    OUTPUT_NODE = True
    CATEGORY = "gpumodels"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"number": ("INT", {"default": 0})}, "optional": {"after": ("*", {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: dict[str, Any]) -> bool:
        return True

    def note(self, number: int, after: Any = None) -> dict[str, Any]:
        management = sys.modules["comfy.model_management"]
        loaded = [one.model for one in management.current_loaded_models if one.model is not None]
        models = {id(patcher.model): patcher for patcher in loaded}
        rows = [memory_of(patcher) for patcher in models.values()]
        for row in rows:
            row["of_class"] = sum(one["class"] == row["class"] for one in rows)
        found = {"models": rows, "devices": devices_of(models.values())}
        del models, loaded
        return {"ui": {"text": [json.dumps({"memory": found})]}, "result": (str(number),)}


def memory_of(patcher: Any) -> dict[str, Any]:
    """Where one model's memory is."""
    device, module = patcher.load_device, patcher.model
    is_dynamic = bool(getattr(patcher, "is_dynamic", lambda: False)())
    vbar: Any = getattr(module, "dynamic_vbars", {}).get(device) if is_dynamic else None
    weights = [*module.parameters(), *module.buffers()]
    layers = [layer for layer in module.modules() if getattr(layer, "_v", None) is not None]
    flags = vbar.get_residency() if vbar is not None else []
    in_pages = 0
    for layer in layers:
        _, address, size = layer._v
        start = address - vbar.base_addr
        for page in range(start // PAGE_BYTES, min(len(flags), -(-(start + size) // PAGE_BYTES))):
            if flags[page] & 1:
                in_pages += min(start + size, (page + 1) * PAGE_BYTES) - max(start, page * PAGE_BYTES)
    casts = [tensor for layer in layers for tensor in (layer.weight, layer.bias) if tensor is not None]
    return {
        "class": type(module).__name__,
        "device": str(device),
        "is_dynamic": is_dynamic,
        "is_cast": any(getattr(tensor, "_model_dtype", tensor.dtype) != tensor.dtype or is_quantized(tensor) for tensor in casts),
        "size": bytes_of(*weights),
        "on_device": bytes_of(*[tensor for tensor in weights if tensor.device == device]),
        "loaded_size": int(patcher.loaded_size()) if device.type != "cpu" else bytes_of(*weights),
        "pages": sum(flag & 1 for flag in flags),
        "in_pages": in_pages,
        "layers": len(layers),
        "pinned": int(patcher.pinned_memory_size()) if is_dynamic else 0,
    }


def is_quantized(tensor: Any) -> bool:
    """Whether its own storage is only nominal, as that of a tensor that consists of others."""
    return hasattr(tensor, "__tensor_flatten__")


def devices_of(patchers: Any) -> dict[str, dict[str, int]]:
    """What torch and comfy-aimdo say of each GPU."""
    found: dict[str, dict[str, int]] = {}
    if not torch.cuda.is_available():
        return found
    control = sys.modules.get("comfy_aimdo.control")
    buffers = getattr(sys.modules["comfy.model_management"], "STREAM_AIMDO_CAST_BUFFERS", {})
    for index in range(torch.cuda.device_count()):
        vbars = {id(vbar): vbar for patcher in patchers for vbar in getattr(patcher.model, "dynamic_vbars", {}).values()}
        beside = sum(vbar.loaded_size() for vbar in vbars.values() if vbar.device == index)
        beside += sum(buffer.size() for buffer in buffers.values() if buffer.device == index)
        found[f"cuda:{index}"] = {
            "allocated": torch.cuda.memory_allocated(index),
            "beside_torch": beside,
            "aimdo_total": int(control.get_total_vram_usage()) if control is not None else 0,
        }
    return found


class WanVideoSamplerStart:
    """Loads the weights as WanVideoWrapper's sampler does before its first step."""

    RETURN_TYPES = ("WANVIDEOMODEL",)
    FUNCTION = "load"
    CATEGORY = "gpumodels"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": ("WANVIDEOMODEL",), "blocks_to_swap": ("INT", {"default": 0})}}

    def load(self, model: Any, blocks_to_swap: int) -> tuple[Any]:
        pack = next(name.rpartition(".")[0] for name in sys.modules if name.endswith(".nodes_model_loading"))
        loading, linear = sys.modules[f"{pack}.nodes_model_loading"], sys.modules[f"{pack}.custom_linear"]
        state, transformer = model.model, model.model.diffusion_model
        options = {"base_dtype": state["base_dtype"], "transformer_load_device": torch.device("cpu")}
        options["block_swap_args"] = {"blocks_to_swap": blocks_to_swap} if blocks_to_swap else None
        if state["sd"] is not None:
            if model.patches and not transformer.patched_linear and state["gguf_reader"] is None:
                linear._replace_linear(transformer, state["base_dtype"], state["sd"])
                transformer.patched_linear = True
            if state["gguf_reader"] is None:
                loading.load_weights(transformer, state["sd"], state["weight_dtype"], **options)
            else:
                loading.load_weights(transformer, state["sd"], patcher=model, gguf=True, reader=state["gguf_reader"], **options)
        if model.patches:
            linear.set_lora_params(transformer, model.patches)
        return (model,)


class PackModel:
    """Makes a model of its own, as node packs do: no patcher knows it."""

    RETURN_TYPES = ("*",)
    FUNCTION = "make"
    CATEGORY = "gpumodels"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model_path": ("STRING", {"default": ""}), "fails": ("BOOLEAN", {"default": False})}}

    def make(self, model_path: str, fails: bool) -> tuple[Any]:
        if fails:
            raise RuntimeError("as it was told to")
        return (torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.Linear(512, 512)),)


class SlowPackModel(PackModel):
    """The same, asynchronously."""

    async def make(self, model_path: str, fails: bool) -> tuple[Any]:  # type: ignore[override]
        await asyncio.sleep(0.3)
        return super().make(model_path, fails)


NODE_CLASS_MAPPINGS = {
    "GpumodelsTruth": Truth,
    "GpumodelsMemory": Memory,
    "GpumodelsWanVideoSamplerStart": WanVideoSamplerStart,
    "GpumodelsPackModel": PackModel,
    "GpumodelsSlowPackModel": SlowPackModel,
}
