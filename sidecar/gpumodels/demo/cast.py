"""The demo's models: the file, metadata, class and size of each, small and real or full-size and simulated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from gpumodels.demo.models import FULL, SMALL, AutoencoderKLWan, LoRANetwork, UMT5EncoderModel, VaceModule, WanModel


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One of the demo's models."""

    name: str
    file: str
    """Its path below the model directory, in ComfyUI's folders."""
    dtype: torch.dtype
    build: Callable[[], nn.Module]
    """Makes the modules. To be called under the meta device, so that they take no memory."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    device: int = 0
    """The index of the simulated GPU that it is loaded onto, if there are so many."""


_WAN_METADATA = {"modelspec.architecture": "wan2.2-t2v", "modelspec.author": "gpumodels demo", "format": "pt"}
_LORA_METADATA = {
    "ss_output_name": "MyLoRA",
    "ss_network_module": "networks.lora_wan",
    "ss_network_dim": "32",
    "ss_network_alpha": "16",
    "ss_base_model_version": "wan2.2",
    "ss_sd_model_name": "Wan2_2-T2V-A14B-HIGH.safetensors",
    "ss_num_train_images": "120",
    "ss_steps": "2400",
    "ss_epoch": "20",
    "ss_learning_rate": "0.0001",
    "modelspec.title": "MyLoRA",
    "modelspec.trigger_phrase": "my style",
}


def real_specs() -> dict[str, ModelSpec]:
    """Small models whose weights are really written, loaded and held: about 300 MB in all."""
    return {
        "high": ModelSpec(
            "Wan2_2-T2V-A14B-HIGH",
            "diffusion_models/Wan2_2-T2V-A14B-HIGH_fp8_e4m3fn_scaled_KJ.safetensors",
            torch.float8_e4m3fn,
            lambda: WanModel(SMALL),
            {**_WAN_METADATA, "model_type": "Wan2_2-T2V-A14B-HIGH"},
        ),
        "low": ModelSpec(
            "Wan2_2-T2V-A14B-LOW",
            "diffusion_models/Wan2_2-T2V-A14B-LOW_fp8_e4m3fn_scaled_KJ.safetensors",
            torch.float8_e4m3fn,
            lambda: WanModel(SMALL),
            {**_WAN_METADATA, "model_type": "Wan2_2-T2V-A14B-LOW"},
        ),
        "vace": ModelSpec(
            "VACE-Depth",
            "diffusion_models/VACE-Depth_bf16.safetensors",
            torch.bfloat16,
            lambda: VaceModule(SMALL, 8),
            {"model_type": "VACE-Depth", "format": "pt"},
        ),
        "vae": ModelSpec(
            "Wan2_1_VAE",
            "vae/Wan2_1_VAE_fp16.safetensors",
            torch.float16,
            lambda: AutoencoderKLWan(144, 8),
            {"modelspec.title": "Wan2_1_VAE", "modelspec.architecture": "wan2.1-vae", "format": "pt"},
        ),
        "text": ModelSpec(
            "umt5-xxl-enc",
            "text_encoders/umt5-xxl-enc-bf16.safetensors",
            torch.bfloat16,
            lambda: UMT5EncoderModel(32128, 256, 640, 24),
            {"modelspec.architecture": "umt5-xxl", "format": "pt"},
        ),
        "lora": ModelSpec("MyLoRA", "loras/MyLoRA.safetensors", torch.float16, lambda: LoRANetwork(SMALL, 32), _LORA_METADATA),
    }


def simulated_specs() -> dict[str, ModelSpec]:
    """The same models at their real size, for simulated GPUs."""
    return {
        "high": ModelSpec("Wan2_2-T2V-A14B-HIGH", "", torch.float8_e4m3fn, lambda: WanModel(FULL)),
        "low": ModelSpec("Wan2_2-T2V-A14B-LOW", "", torch.float8_e4m3fn, lambda: WanModel(FULL), device=1),
        "vace": ModelSpec("VACE-Depth", "", torch.bfloat16, lambda: VaceModule(FULL, 8)),
        "vae": ModelSpec("Wan2_1_VAE", "", torch.float16, lambda: AutoencoderKLWan(384, 8)),
        "text": ModelSpec("umt5-xxl-enc", "", torch.bfloat16, lambda: UMT5EncoderModel(256384, 4096, 10240, 24), device=1),
        "lora": ModelSpec("MyLoRA", "", torch.float16, lambda: LoRANetwork(FULL, 32)),
    }
