"""ComfyUI's own loader and patcher with dynamic VRAM, on the CPU with a stand-in for the VBAR: what the sidecar says of them.

Runs in ComfyUI's Python, not in the tests': `python dynamic_vram_host.py COMFYUI LORA FILE…`. The device is torch's `meta`.
Prints a JSON object for each moment: what is true by ComfyUI's own attributes, and what the sidecar says.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMFYUI, LORA, FILES = sys.argv[1], sys.argv[2], sys.argv[3:]
sys.path[:0] = [str(Path(__file__).parents[1]), COMFYUI]
sys.argv = ["main.py", "--cpu"]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy_aimdo.control  # noqa: E402

comfy_aimdo.control.init("cuda")  # its library needs no driver for mapping files

import comfy.memory_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import comfy_aimdo.model_vbar  # noqa: E402
import torch  # noqa: E402

from comfyui.probe_nodes import memory_of  # noqa: E402
from dynamic_vram import PAGE, ModelVBAR  # noqa: E402
from modules import Attached, attached  # noqa: E402

META = torch.device("meta")


class StandIn(ModelVBAR):
    """What the patcher calls of a VBAR besides."""

    def __init__(self, size: float, device: object) -> None:
        super().__init__(-(-int(size) // PAGE))

    def prioritize(self) -> None:
        """Nothing competes with it."""

    def free_memory(self, size: float) -> int:
        self.bring()
        return 0


def said(sidecar: Attached, moment: str, patcher: Any) -> None:
    """Print both."""
    models = [model for model in sidecar.models() if model.parent is None]
    rows = [
        {
            "name": model.name, "files": [Path(file).name for file in model.files], "confidence": model.confidence,
            "class": model.class_name, "on": model.bytes_by_device.get("meta:0", 0), "off": model.offloaded_bytes,
            "loras": [
                [lora.name, lora.resident_bytes, lora.offloaded_bytes, lora.dynamic_memory]
                for lora in sidecar.models()
                if lora.parent == model.id
            ],
            "in_host": model.bytes_by_device.get("cpu", 0), "is_dynamic": model.dynamic_memory, "unread": model.unread_tensors,
        }
        for model in models
    ]  # fmt: skip
    truth = memory_of(patcher) if patcher is not None else None
    print(json.dumps({"moment": moment, "truth": truth, "said": rows, "failures": sidecar.failures.count}), flush=True)


def patchers(file: str) -> Iterator[Any]:
    """The model in this file, in a patcher with dynamic VRAM, its weights mapped by ComfyUI's own loader."""
    made = comfy.sd.load_diffusion_model(file)
    patcher = comfy.model_patcher.ModelPatcherDynamic(made.model, META, torch.device("cpu"))
    del made
    tensors = comfy.utils.load_torch_file(file)
    tensors, _ = comfy.utils.convert_old_quants(tensors, "", metadata={})
    patcher.model.load_model_weights(tensors, "", assign=True)
    del tensors
    yield patcher


def main() -> None:
    """All files, one after the other."""
    comfy.memory_management.aimdo_enabled = True
    comfy_aimdo.model_vbar.ModelVBAR = StandIn
    listed = comfy.model_patcher.ModelPatcher._load_list
    comfy.model_patcher.ModelPatcher._load_list = lambda self, for_dynamic=False, default_device=None: listed(
        self, for_dynamic, torch.device("cpu")
    )  # a parameter's data can't be exchanged for a tensor on meta
    with attached() as sidecar:
        for file in FILES:
            for patcher in patchers(file):
                said(sidecar, "loaded", patcher)
                patcher.load(META)
                vbar = patcher.model.dynamic_vbars[META]
                said(sidecar, "prepared", patcher)
                pages = range(-(-vbar.offset // PAGE))
                for some in ([0], pages, [pages[-1]], []):
                    vbar.bring(*some)
                    clone = patcher.clone()
                    said(sidecar, f"{len(some)} pages", patcher)
                    del clone
                patched, _ = comfy.sd.load_lora_for_models(patcher, None, comfy.utils.load_torch_file(LORA), 1.0, 0.0)
                patched.load(META)
                said(sidecar, "LoRA", patched)
                del vbar, patched
            del patcher
            gc.collect()
            said(sidecar, "deleted", None)


main()
