"""Tells a model's kind: an adapter by its tensors; others by pipeline slot, attribute names, folder or class, in this order.

A slot states what the model is for (a language model that encodes prompts is a text encoder there). Names are those in the
architectures' own state dicts, so they tell the kind whatever the class is called.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from pathlib import PurePath
from typing import Final

BY_CLASS: Final = (
    ("controlnet", r"ControlNet|ControlLora|T2IAdapter|ControlNeXt"),
    ("vae", r"Autoencod|VAE|^Vae|VQModel|TAESD|AutoEncoder"),
    (
        "upscaler",
        r"RRDB|ESRGAN|SwinIR|Swin2SR|Upscale|^HAT$|^DAT$|^SPAN$|SCUNet|PLKSR|DRCT|ATD$|SRVGG|SRFormer|OmniSR|UpCunet|SAFMN|^RGT$|MoSR",
    ),
    ("depth", r"DepthAnything|^DPT|MiDaS|ZoeDepth|DepthPro|DepthEstimat|GLPN|LeReS"),
    (
        "audio",
        r"Wav2Vec|Whisper|Hubert|Encodec|EnCodec|Vocos|MusicGen|Musicgen|Bark|Vocoder|HifiGan|Silero|WavLM|Vits|Clap(Model|Audio)|"
        r"^AST(Model|For)|SpeechT5|UnivNet|SeamlessM4T|Dac(Model)?$|Mimi(Model)?$|Xcodec|Kokoro|ACEStep",
    ),
    (
        "checkpoint",
        r"UNet|UVit|Transformer[23]DModel|DiT(Transformer|Model)?|WanModel|WanTransformer|MMDiT|FluxTransformer|^Flux$|SD3|HunyuanVideo",
    ),
    ("checkpoint", r"LTXV|Mochi|Cosmos|QwenImage|Lumina|PixArt|Kandinsky|StableCascade|AuraFlow|Chroma|SanaTransformer|HiDream"),
    (
        "llm",
        r"ForCausalLM|LMHeadModel|ForConditionalGeneration|^(Llama|Mistral|Mixtral|Qwen\d*|Gemma\d*|Phi\d*|GPT\w*|Falcon)Model$",
    ),
    (
        "clip",
        r"CLIP|UMT5|T5Encoder|MT5Encoder|T5Stack|Siglip|SigLIP|TextEncoder|TextModel|ImageEncoder|VisionEncoder|Dinov2|DINOv3|^ViTModel",
    ),
    (
        "embedding",
        r"SentenceTransformer|^(Bert|Roberta|XLMRoberta|MPNet|DistilBert|NomicBert|ModernBert|Albert|Electra|Deberta\w*)Model$",
    ),
)
"""Kind and pattern of the class name, for models whose attribute names say nothing; the first match anywhere in it counts."""

BY_NAMES: Final = tuple(
    (kind, frozenset(needed.split()))
    for kind, needed in (
        ("checkpoint", "diffusion_model"),
        ("controlnet", "controlnet_cond_embedding"),
        ("controlnet", "controlnet_blocks"),
        ("controlnet", "control_blocks patch_embed_base"),
        ("controlnet", "zero_convs input_hint_block"),
        ("controlnet", "adapter body in_conv"),
        ("vae", "quant_conv decoder_unet"),
        ("vae", "quant_conv post_quant_conv"),
        ("vae", "encoder decoder mid_block"),
        ("vae", "encoder decoder mid norm_out"),
        ("vae", "encoder decoder mid conv_in conv_out"),
        ("vae", "encoder decoder downsamples upsamples"),
        ("vae", "encoder decoder down_blocks up_blocks"),
        ("vae", "taesd_encoder taesd_decoder"),
        ("vae", "encoder_mean decoder_pred"),
        ("audio", "coarse_acoustics fine_acoustics"),
        ("audio", "quantizer codebook"),
        ("audio", "audio_model audio_projection"),
        ("vae", "encoder decoder res_unit1"),
        ("checkpoint", "time_embedding patch_embedding blocks"),
        ("checkpoint", "condition_embedder patch_embedding blocks"),
        ("model", "vace_blocks vace_patch_embedding"),  # what VACE adds to a Wan transformer, without the transformer
        ("checkpoint", "time_embed input_blocks output_blocks"),
        ("checkpoint", "down_blocks up_blocks time_embedding"),
        ("checkpoint", "down_blocks up_blocks time_proj"),
        ("checkpoint", "down_downscalers up_upscalers"),
        ("checkpoint", "double_blocks single_blocks"),
        ("checkpoint", "double_layers single_layers"),
        ("checkpoint", "joint_blocks x_embedder"),
        ("checkpoint", "joint_transformer_blocks context_embedder"),
        ("checkpoint", "noise_refiner context_refiner"),
        ("checkpoint", "visual_transformer_blocks text_transformer_blocks"),
        ("checkpoint", "x_embedder t_embedder"),
        ("checkpoint", "img_in txt_in time_in"),
        ("checkpoint", "cond_embeds_mapper mlm_layer"),
        ("checkpoint", "transformer_blocks time_text_embed"),
        ("checkpoint", "transformer_blocks time_embed"),
        ("checkpoint", "transformer_blocks time_embedding"),
        ("checkpoint", "transformer_blocks timestep_embedder"),
        ("checkpoint", "transformer_blocks timestep_proj"),
        ("checkpoint", "transformer_blocks adaln_single"),
        ("upscaler", "conv_first conv_last"),
        ("upscaler", "conv_first conv_after_body"),
        ("upscaler", "conv_before_upsample conv_after_body"),
        ("upscaler", "sub RDB1"),
        ("upscaler", "block_1 block_6 conv_cat"),
        ("depth", "fusion_stage reassemble_stage"),
        ("depth", "scratch refinenet1"),
        ("depth", "depth_pro"),
        ("depth", "glpn fusion"),
        ("llm", "language_model multi_modal_projector"),
        ("audio", "feature_extractor feature_projection"),
        ("audio", "feature_projection conv_module"),
        ("audio", "conv1 conv2 embed_positions encoder_attn"),
        ("audio", "conv1 conv2 positional_embedding cross_attn"),
        ("audio", "duration_predictor posterior_encoder"),
        ("audio", "speech_decoder_postnet"),
        ("audio", "conv_pre conv_post resblocks"),
        ("audio", "embed_tokens lm_heads"),
        ("llm", "lm_head embed_tokens"),
        ("llm", "lm_head embed_in"),
        ("llm", "block EncDecAttention"),
        ("llm", "embed_tokens encoder_attn"),
        ("llm", "shared encoder_attn"),
        ("llm", "embed_tokens embed_positions self_attn_layer_norm"),
        ("model", "box_head class_head"),
        ("model", "text_decoder vision_model"),
        ("clip", "block relative_attention_bias"),
        ("clip", "text_projection token_embedding"),
        ("clip", "text_projection text_model"),
        ("clip", "text_model position_embedding"),
        ("clip", "token_embedding position_embedding final_layer_norm"),
        ("clip", "token_embedding pos_embedding ffn"),
        ("clip", "patch_embedding class_embedding pre_layrnorm"),
        ("clip", "patch_embedding position_embedding post_layernorm"),
        ("clip", "patch_embeddings cls_token layer_scale1"),
        ("clip", "resblocks token_embedding"),
        ("clip", "resblocks class_embedding"),
        ("llm", "embed_tokens self_attn mlp input_layernorm"),
        ("llm", "tok_embeddings wq feed_forward"),
        ("llm", "wte wpe"),
        ("llm", "word_embeddings self_attention dense_h_to_4h"),
        ("llm", "mixer A_log"),
        ("model", "word_embeddings classifier"),
        ("model", "word_embeddings predictions"),
        ("model", "word_embeddings qa_outputs"),
        ("embedding", "word_embeddings token_type_embeddings"),
        ("embedding", "word_embeddings relative_attention_bias pooler"),
        ("embedding", "word_embeddings q_lin sa_layer_norm"),
        ("embedding", "word_embeddings query_proj key_proj"),
        ("embedding", "tok_embeddings Wqkv"),
    )
)
"""Kind and the attribute names that must all be present; the first match counts."""

BY_SLOT: Final = (
    ("controlnet", r"^(controlnet|adapter)(_\d)?$"),
    ("vae", r"^(vae|vqvae|vqgan|movq|vae_[a-z]+|audio_vae)$"),
    ("clip", r"^(text_encoder|image_encoder|vision_encoder|image_embeds|mllm)(_\d)?$"),
    ("checkpoint", r"^(unet|transformer|prior|decoder|prior_prior|dit)(_\d)?$"),
    ("audio", r"^vocoder$"),
)
"""Kind and pattern of the slot's name in a diffusers pipeline."""

BY_FOLDER: Final = {
    "loras": "lora",
    "lora": "lora",
    "lycoris": "lora",
    "vae": "vae",
    "vae_approx": "vae",
    "vae-approx": "vae",
    "controlnet": "controlnet",
    "t2i_adapter": "controlnet",
    "upscale_models": "upscaler",
    "latent_upscale_models": "upscaler",
    "esrgan": "upscaler",
    "realesrgan": "upscaler",
    "swinir": "upscaler",
    "text_encoders": "clip",
    "clip": "clip",
    "clip_vision": "clip",
    "diffusion_models": "checkpoint",
    "unet": "checkpoint",
    "embeddings": "embedding",
    "audio_encoders": "audio",
    "depthanything": "depth",
    "llm": "llm",
}
"""By folder in lower case, the kind that ComfyUI and others keep there. `checkpoints` isn't here: its files hold all kinds."""

_CLASS_PATTERNS: Final = tuple((kind, re.compile(pattern)) for kind, pattern in BY_CLASS)


_SLOT_PATTERNS: Final = tuple((kind, re.compile(pattern)) for kind, pattern in BY_SLOT)


def kind_of(class_name: str, names: Set[str], adapter_share: float, slot: str | None = None, files: Sequence[str] = ()) -> str:
    """One of `schema.KINDS`; `model` if nothing tells more.

    Args:
        class_name: of the module inside its wrappers.
        names: attribute names of its modules and tensors.
        adapter_share: the share of its bytes that belongs to adapter tensors, 0 to 1.
        slot: its slot in a pipeline, such as `unet`.
        files: the paths that it was loaded from.
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
        if (kind_of_folder := BY_FOLDER.get(folder.lower())) is not None:
            return kind_of_folder
    for kind, pattern in _CLASS_PATTERNS:
        if pattern.search(class_name):
            return kind
    return "model"
