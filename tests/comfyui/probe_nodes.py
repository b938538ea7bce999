"""Nodes of our own in the tests' ComfyUI: what a model truly holds, and what a sampler does before its first step.

Copied into the custom nodes of a temporary base directory. Keeps no model.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

TRUTH: dict[str, int] = {}


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


NODE_CLASS_MAPPINGS = {"GpumodelsTruth": Truth, "GpumodelsWanVideoSamplerStart": WanVideoSamplerStart}
