"""What kind of model it is: adapters by their tensors; then by pipeline slot, by the names of modules and tensors, by the folder
of its file, by class.

A slot says outright what the model is for (a language model that encodes prompts is a text encoder there); names are those of
the architectures' own state dicts, so that a class of any name is known by them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from pathlib import PurePath
from typing import Final

BY_CLASS: Final = (
    ("controlnet", r"ControlNet|ControlLora|T2IAdapter|ControlNeXt"),
    ("vae", r"Autoencod|VAE|^Vae|VQModel|TAESD|AutoEncoder"),
    ("upscaler", r"RRDB|ESRGAN|SwinIR|Swin2SR|Upscale|^HAT$|^DAT$|^SPAN$|SCUNet|RealPLKSR|DRCT|ATD$"),
    ("depth", r"DepthAnything|^DPT|MiDaS|ZoeDepth|DepthPro|DepthEstimat|GLPN|LeReS"),
    (
        "audio",
        r"Wav2Vec|Whisper|Hubert|Encodec|EnCodec|Vocos|MusicGen|Musicgen|Bark|Vocoder|HifiGan|Silero|WavLM|Vits|Clap(Model|Text|Audio)",
    ),
    (
        "checkpoint",
        r"UNet|Transformer[23]DModel|DiT(Transformer|Model)?|WanModel|WanTransformer|MMDiT|FluxTransformer|^Flux$|SD3|HunyuanVideo",
    ),
    ("checkpoint", r"LTXV|Mochi|Cosmos|QwenImage|Lumina|PixArt|Kandinsky|StableCascade|AuraFlow|Chroma|SanaTransformer|HiDream"),
    (
        "llm",
        r"ForCausalLM|LMHeadModel|ForConditionalGeneration|^(Llama|Mistral|Mixtral|Qwen\d*|Gemma\d*|Phi\d*|GPT\w*|Falcon)Model$",
    ),
    ("clip", r"CLIP|UMT5|T5Encoder|MT5Encoder|T5Stack|Siglip|SigLIP|TextEncoder|TextModel|ImageEncoder|VisionEncoder|Dinov2"),
    (
        "embedding",
        r"SentenceTransformer|^(Bert|Roberta|XLMRoberta|MPNet|DistilBert|NomicBert|ModernBert|Albert|Deberta\w*)Model$",
    ),
)
"""Kind and pattern of class name, for models whose names inside say nothing; the first that is found anywhere counts."""

BY_NAMES: Final = tuple(
    (kind, frozenset(needed.split()))
    for kind, needed in (
        ("checkpoint", "diffusion_model"),
        ("controlnet", "controlnet_cond_embedding"),
        ("controlnet", "controlnet_blocks"),
        ("controlnet", "zero_convs input_hint_block"),
        ("vae", "quant_conv post_quant_conv"),
        ("vae", "encoder decoder mid_block"),
        ("vae", "encoder decoder mid norm_out"),
        ("vae", "encoder decoder downsamples upsamples"),
        ("checkpoint", "time_embedding patch_embedding blocks"),
        ("checkpoint", "condition_embedder patch_embedding blocks"),
        ("model", "vace_blocks vace_patch_embedding"),  # what VACE adds to a Wan transformer, without the transformer
        ("checkpoint", "time_embed input_blocks output_blocks"),
        ("checkpoint", "down_blocks up_blocks time_embedding"),
        ("checkpoint", "double_blocks single_blocks"),
        ("checkpoint", "joint_blocks x_embedder"),
        ("checkpoint", "transformer_blocks time_text_embed"),
        ("checkpoint", "transformer_blocks time_embed"),
        ("checkpoint", "transformer_blocks time_embedding"),
        ("checkpoint", "transformer_blocks adaln_single"),
        ("upscaler", "conv_first conv_last"),
        ("upscaler", "conv_first conv_after_body"),
        ("depth", "fusion_stage reassemble_stage"),
        ("depth", "scratch refinenet1"),
        ("audio", "feature_extractor feature_projection"),
        ("audio", "conv1 conv2 embed_positions encoder_attn"),
        ("llm", "lm_head embed_tokens"),
        ("llm", "block EncDecAttention"),
        ("clip", "block relative_attention_bias"),
        ("clip", "text_projection token_embedding"),
        ("clip", "text_model position_embedding"),
        ("clip", "token_embedding position_embedding final_layer_norm"),
        ("clip", "patch_embedding class_embedding pre_layrnorm"),
        ("clip", "patch_embedding position_embedding post_layernorm"),
        ("clip", "patch_embeddings cls_token layer_scale1"),
        ("clip", "resblocks token_embedding"),
        ("llm", "embed_tokens self_attn mlp input_layernorm"),
        ("llm", "wte wpe"),
        ("llm", "word_embeddings self_attention dense_h_to_4h"),
        ("llm", "mixer A_log"),
        ("model", "word_embeddings classifier"),
        ("embedding", "word_embeddings token_type_embeddings pooler"),
    )
)
"""Kind and the attribute names that must all be there; the first that fits counts."""

BY_SLOT: Final = (
    ("controlnet", r"^(controlnet|adapter)(_\d)?$"),
    ("vae", r"^(vae|vqvae|vqgan|movq|vae_[a-z]+|audio_vae)$"),
    ("clip", r"^(text_encoder|image_encoder|vision_encoder|image_embeds|mllm)(_\d)?$"),
    ("checkpoint", r"^(unet|transformer|prior|decoder|prior_prior|dit)(_\d)?$"),
    ("audio", r"^vocoder$"),
)
"""Kind and a pattern of the place in a diffusers pipeline."""

BY_FOLDER: Final = {
    "loras": "lora",
    "vae": "vae",
    "vae_approx": "vae",
    "controlnet": "controlnet",
    "upscale_models": "upscaler",
    "latent_upscale_models": "upscaler",
    "text_encoders": "clip",
    "clip": "clip",
    "clip_vision": "clip",
    "diffusion_models": "checkpoint",
    "unet": "checkpoint",
    "embeddings": "embedding",
    "audio_encoders": "audio",
}
"""Where the trees of ComfyUI and others keep what; `checkpoints` holds all parts of a model in one file, so it says nothing."""

_CLASS_PATTERNS: Final = tuple((kind, re.compile(pattern)) for kind, pattern in BY_CLASS)


_SLOT_PATTERNS: Final = tuple((kind, re.compile(pattern)) for kind, pattern in BY_SLOT)


def kind_of(class_name: str, names: Set[str], adapter_share: float, slot: str | None = None, files: Sequence[str] = ()) -> str:
    """One of `schema.KINDS`; `model` where nothing says more.

    Args:
        class_name: of the module, wrappers seen through.
        names: attribute names of its modules and tensors.
        adapter_share: how much of its bytes belong to adapter tensors, 0 to 1.
        slot: its place in a pipeline.
        files: what it was loaded from.
    """
    if adapter_share > 0.5:
        return "lora"
    for kind, pattern in _SLOT_PATTERNS:
        if slot is not None and pattern.search(slot):
            return kind
    for kind, needed in BY_NAMES:
        if needed <= names:
            return kind
    for folder in (part for path in files for part in PurePath(path).parts[-2:-5:-1]):
        if folder in BY_FOLDER:
            return BY_FOLDER[folder]
    for kind, pattern in _CLASS_PATTERNS:
        if pattern.search(class_name):
            return kind
    return "model"
