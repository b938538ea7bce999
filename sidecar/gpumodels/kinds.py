"""What kind of model it is: adapters by their tensors, the rest by class name, then by the names of modules and tensors."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Final

BY_CLASS: Final = (
    ("controlnet", r"ControlNet|ControlLora|T2IAdapter|ControlNeXt"),
    ("vae", r"Autoencod|VAE|^Vae|VQModel|TAESD|AutoEncoder"),
    ("upscaler", r"RRDB|ESRGAN|SwinIR|Swin2SR|Upscale|^HAT$|^DAT$|^SPAN$|SCUNet|RealPLKSR|DRCT|ATD$"),
    ("depth", r"DepthAnything|^DPT|MiDaS|ZoeDepth|DepthPro|DepthEstimat|GLPN|LeReS"),
    (
        "audio",
        r"Wav2Vec|Whisper|Hubert|Encodec|EnCodec|Vocos|MusicGen|Musicgen|Bark|Vocoder|HifiGan|Silero|WavLM|Clap(Model|Text|Audio)",
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
"""Kind and pattern of class name; the first that is found anywhere in the name counts."""

BY_NAMES: Final = (
    ("checkpoint", frozenset({"diffusion_model"})),
    ("controlnet", frozenset({"controlnet_cond_embedding"})),
    ("controlnet", frozenset({"zero_convs", "input_hint_block"})),
    ("vae", frozenset({"quant_conv", "post_quant_conv"})),
    ("vae", frozenset({"encoder", "decoder", "mid_block"})),
    ("checkpoint", frozenset({"time_embedding", "patch_embedding", "blocks"})),
    ("checkpoint", frozenset({"time_embed", "input_blocks", "output_blocks"})),
    ("checkpoint", frozenset({"double_blocks", "single_blocks"})),
    ("checkpoint", frozenset({"joint_blocks", "x_embedder"})),
    ("llm", frozenset({"lm_head", "embed_tokens"})),
    ("clip", frozenset({"text_projection", "token_embedding"})),
    ("clip", frozenset({"text_model", "position_embedding"})),
)
"""Kind and the attribute names that must all be there, for models whose class says nothing."""

_CLASS_PATTERNS: Final = tuple((kind, re.compile(pattern)) for kind, pattern in BY_CLASS)


def kind_of(class_name: str, names: Set[str], adapter_share: float) -> str:
    """One of `schema.KINDS`; `model` where nothing says more.

    Args:
        class_name: of the module, wrappers seen through.
        names: attribute names of its modules and tensors.
        adapter_share: how much of its bytes belong to adapter tensors, 0 to 1.
    """
    if adapter_share > 0.5:
        return "lora"
    for kind, pattern in _CLASS_PATTERNS:
        if pattern.search(class_name):
            return kind
    for kind, needed in BY_NAMES:
        if needed <= names:
            return kind
    return "model"
