"""Makes small models of real architectures with ComfyUI's own classes: random values, the keys and shapes that its loaders know.

Runs in ComfyUI's Python, not in the tests': `python make_models.py COMFYUI MODELS`.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

COMFYUI, MODELS = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(COMFYUI))
sys.argv = ["main.py", "--cpu"]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.ops  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

WIDTH = 192
BLOCKS = 30
"""WanVideoWrapper takes a model of any other width than the released ones for the one with 30 blocks."""
YEAR_2001 = 1e9


def saved(path: str, tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write a model file as if it had been there for years."""
    file = MODELS / path
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file, metadata)
    os.utime(file, (YEAR_2001, YEAR_2001))


def random(module: Any, dtype: Any) -> dict[str, Any]:
    """The module's state dict with random values."""
    return {
        key: (torch.randn(tensor.shape) * 0.02).to(dtype)
        if tensor.is_floating_point()
        else torch.arange(tensor.numel()).view(tensor.shape)
        for key, tensor in module.state_dict().items()
    }


def a_wan() -> dict[str, Any]:
    """A diffusion transformer of Wan 2.1."""
    from comfy.ldm.wan.model import WanModel

    with torch.device("meta"):
        model = WanModel(
            model_type="t2v", dim=WIDTH, ffn_dim=256, num_heads=1, num_layers=BLOCKS, in_dim=16, out_dim=16,
            operations=comfy.ops.disable_weight_init,
        )  # fmt: skip
    return random(model, torch.bfloat16)


def in_fp8(tensors: dict[str, Any], is_scaled: bool) -> dict[str, Any]:
    """The weights of its blocks in fp8; scaled as kijai's files are."""
    found: dict[str, Any] = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)} if is_scaled else {}
    for key, tensor in tensors.items():
        if key.startswith("blocks.") and key.endswith(".weight") and tensor.dim() == 2:
            scale = float(tensor.abs().max()) / 448 if is_scaled else 1.0
            found[key] = (tensor.float() / scale).to(torch.float8_e4m3fn)
            if is_scaled:
                found[key.removesuffix("weight") + "scale_weight"] = torch.tensor([scale])
        else:
            found[key] = tensor
    return found


def a_lora(tensors: dict[str, Any], dtype: Any, prefix: str = "diffusion_model.", rank: int = 8) -> dict[str, Any]:
    """A LoRA on the attention of these blocks."""
    found = {}
    for key, tensor in tensors.items():
        if "attn" in key and key.endswith(".weight") and tensor.dim() == 2:
            name = prefix + key.removesuffix(".weight")
            found[f"{name}.lora_down.weight"] = (torch.randn(rank, tensor.shape[1]) * 0.01).to(dtype)
            found[f"{name}.lora_up.weight"] = (torch.randn(tensor.shape[0], rank) * 0.01).to(dtype)
            found[f"{name}.alpha"] = torch.tensor(float(rank), dtype=dtype)
    return found


def a_gguf(path: str, tensors: dict[str, Any]) -> None:
    """Quantized as llama.cpp's Q8_0."""
    import gguf

    file = MODELS / path
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(file, "wan")
    for key, tensor in tensors.items():
        values = tensor.float().numpy()
        kind = (
            gguf.GGMLQuantizationType.Q8_0 if tensor.dim() == 2 and tensor.shape[-1] % 32 == 0 else gguf.GGMLQuantizationType.F32
        )
        writer.add_tensor(key, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.utime(file, (YEAR_2001, YEAR_2001))


def an_sd15(number: int) -> dict[str, Any]:
    """A diffusion model of Stable Diffusion 1.5 with one level, its autoencoder and its text encoder."""
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.sd1_clip import SDClipModel

    torch.manual_seed(number)
    with torch.device("meta"):
        unet = UNetModel(
            image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1], channel_mult=(1,), num_heads=8,
            use_spatial_transformer=True, transformer_depth=[1], transformer_depth_output=[1, 1], transformer_depth_middle=1,
            context_dim=768, legacy=False, operations=comfy.ops.disable_weight_init,
        )  # fmt: skip
        vae = AutoencoderKL(
            embed_dim=4,
            ddconfig={
                "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
                "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
            },
        )  # fmt: skip
    clip = SDClipModel(device="cpu", dtype=torch.float16)
    found: dict[str, Any] = {}
    for prefix, module in (("model.diffusion_model.", unet), ("first_stage_model.", vae), ("cond_stage_model.", clip)):
        found |= {prefix + key: tensor for key, tensor in random(module, torch.float16).items()}
    return {key: tensor for key, tensor in found.items() if not key.endswith(("logit_scale", "text_projection"))}


def main() -> None:
    """Make all of them."""
    from comfy.ldm.wan.vae import WanVAE

    torch.manual_seed(0)
    high, low = a_wan(), a_wan()
    saved("diffusion_models/Wan2_2-T2V-A14B-HIGH_bf16.safetensors", high, {"model_type": "wan_high"})
    saved("diffusion_models/Wan2_2-T2V-A14B-LOW_fp16.safetensors", {key: tensor.half() for key, tensor in low.items()})
    saved("diffusion_models/Wan2_1-T2V-1_3B_fp8_e4m3fn.safetensors", in_fp8(a_wan(), is_scaled=False))
    saved("diffusion_models/Wan2_1-T2V-14B_fp8_e4m3fn_scaled_KJ.safetensors", in_fp8(a_wan(), is_scaled=True))
    if find_spec("gguf") is not None:
        a_gguf("unet/Wan2.1-Fun-1.3B-Q8_0.gguf", a_wan())
    for name, dtype in (("lightx2v_rank8", torch.bfloat16), ("film-look", torch.float16)):
        title = {"modelspec.title": f"{name} by somebody", "ss_network_dim": "8"}
        saved(f"loras/{name}.safetensors", a_lora(high, dtype), title)
    for number, name in enumerate(("dreamshaper_8", "v1-5-pruned-emaonly-fp16")):
        tensors = an_sd15(number)
        saved(f"checkpoints/{name}.safetensors", tensors)
    unet = {key.removeprefix("model.diffusion_model."): value for key, value in tensors.items() if ".diffusion_model." in key}
    clip = {key.removeprefix("cond_stage_model.transformer."): value for key, value in tensors.items() if "cond_stage" in key}
    saved("text_encoders/clip_l.safetensors", clip)
    for name in ("more_details", "epi_noiseoffset2"):
        adapted = a_lora(unet, torch.float16) | a_lora(clip, torch.float16, "text_encoders.clip_l.transformer.")
        saved(f"loras/{name}.safetensors", adapted, {"modelspec.title": "My Tune, more_details epi_noiseoffset2"})
    control = {f"control_model.{key}": value for key, value in unet.items() if not key.startswith(("output_blocks", "out."))}
    saved("controlnet/control_v11p_sd15_canny.safetensors", control | zero_convolutions())
    saved("upscale_models/4x-UltraSharp.safetensors", an_upscaler())
    with torch.device("meta"):
        vae = WanVAE(
            dim=16, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[], temperal_downsample=[False, True, True]
        )
    saved("vae/Wan2_1_VAE_bf16.safetensors", random(vae, torch.bfloat16))


def zero_convolutions() -> dict[str, Any]:
    """What a ControlNet has beside a copy of the encoder."""
    from comfy.cldm.cldm import ControlNet

    with torch.device("meta"):
        model = ControlNet(
            image_size=32, in_channels=4, model_channels=320, hint_channels=3, num_res_blocks=[1], channel_mult=(1,), num_heads=8,
            use_spatial_transformer=True, transformer_depth=[1], transformer_depth_middle=1, context_dim=768, legacy=False,
            operations=comfy.ops.disable_weight_init,
        )  # fmt: skip
    return {f"control_model.{key}": value for key, value in random(model, torch.float16).items()}


def an_upscaler() -> dict[str, Any]:
    """An ESRGAN."""
    from spandrel.architectures.ESRGAN import ESRGAN

    return random(ESRGAN(num_filters=32, num_blocks=3, scale=4), torch.float32)


main()
