"""Real architectures, each with its kind: those that libraries build, and those under their authors' own names."""

from __future__ import annotations

Options = dict[str, object]

ONE_LAYER: Options = {"num_layers": 1}
FLUX_LAYERS: Options = {"num_layers": 1, "num_single_layers": 1}
SDXL: Options = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "cross_attention_dim": 2048,
}
SMALL_CASCADE: Options = {
    "in_channels": 4,
    "out_channels": 4,
    "timestep_ratio_embedding_dim": 8,
    "patch_size": 1,
    "conditioning_dim": 64,
    "block_out_channels": (32, 64),
    "num_attention_heads": (0, 2),
    "kernel_size": 3,
    "dropout": (0.1, 0.1),
    "self_attn": False,
    "down_num_layers_per_block": (1, 1),
    "up_num_layers_per_block": (1, 1),
    "down_blocks_repeat_mappers": (1, 1),
    "up_blocks_repeat_mappers": (1, 1),
    "block_types_per_layer": (("SDCascadeResBlock",), ("SDCascadeResBlock",)),
}

DIFFUSERS: dict[str, tuple[str, Options]] = {
    # SD, SDXL, SD3 and other backbones.
    "UNet2DConditionModel": ("checkpoint", {}),
    "UNet2DConditionModel/SDXL": ("checkpoint", SDXL),
    "UNet2DModel": ("checkpoint", {}),
    "UNet1DModel": ("checkpoint", {}),
    "UNet3DConditionModel": ("checkpoint", {}),
    "UNetMotionModel": ("checkpoint", {}),
    "UNetSpatioTemporalConditionModel": ("checkpoint", {}),
    "UVit2DModel": ("checkpoint", {}),
    "StableCascadeUNet": ("checkpoint", SMALL_CASCADE),
    "SD3Transformer2DModel": ("checkpoint", ONE_LAYER),
    "FluxTransformer2DModel": ("checkpoint", FLUX_LAYERS),
    "Flux2Transformer2DModel": ("checkpoint", FLUX_LAYERS),
    "ChromaTransformer2DModel": ("checkpoint", FLUX_LAYERS),
    "OvisImageTransformer2DModel": ("checkpoint", ONE_LAYER),
    "ZImageTransformer2DModel": ("checkpoint", {"n_layers": 1}),
    "AuraFlowTransformer2DModel": ("checkpoint", {"num_mmdit_layers": 1, "num_single_dit_layers": 1}),
    "Lumina2Transformer2DModel": ("checkpoint", ONE_LAYER),
    "DiTTransformer2DModel": ("checkpoint", ONE_LAYER),
    "CogView4Transformer2DModel": ("checkpoint", ONE_LAYER),
    "PixArtTransformer2DModel": ("checkpoint", ONE_LAYER),
    "SanaTransformer2DModel": ("checkpoint", ONE_LAYER),
    "PRXTransformer2DModel": ("checkpoint", {}),
    "QwenImageTransformer2DModel": ("checkpoint", ONE_LAYER),
    "PriorTransformer": ("checkpoint", ONE_LAYER),
    "Kandinsky3UNet": ("checkpoint", {}),
    # Video.
    "WanTransformer3DModel": ("checkpoint", ONE_LAYER),
    "WanVACETransformer3DModel": ("checkpoint", {"num_layers": 2, "vace_layers": [0]}),
    "WanAnimateTransformer3DModel": ("checkpoint", ONE_LAYER),
    "SkyReelsV2Transformer3DModel": ("checkpoint", ONE_LAYER),
    "HunyuanVideoTransformer3DModel": ("checkpoint", FLUX_LAYERS),
    "HunyuanVideo15Transformer3DModel": ("checkpoint", ONE_LAYER),
    "HunyuanImageTransformer2DModel": ("checkpoint", FLUX_LAYERS),
    "LTXVideoTransformer3DModel": ("checkpoint", ONE_LAYER),
    "LTX2VideoTransformer3DModel": ("checkpoint", ONE_LAYER),
    "MochiTransformer3DModel": ("checkpoint", ONE_LAYER),
    "CogVideoXTransformer3DModel": ("checkpoint", ONE_LAYER),
    "CosmosTransformer3DModel": ("checkpoint", ONE_LAYER),
    "Kandinsky5Transformer3DModel": ("checkpoint", {}),
    "AllegroTransformer3DModel": ("checkpoint", ONE_LAYER),
    # Sound.
    "StableAudioDiTModel": ("checkpoint", ONE_LAYER),
    "AudioLDM2UNet2DConditionModel": ("checkpoint", {}),
    # Autoencoders.
    "AutoencoderKL": ("vae", {}),
    "AutoencoderKLWan": ("vae", {}),
    "AutoencoderKLQwenImage": ("vae", {}),
    "AutoencoderKLTemporalDecoder": ("vae", {}),
    "AutoencoderKLHunyuanVideo": ("vae", {}),
    "AutoencoderKLLTXVideo": ("vae", {}),
    "AutoencoderKLLTX2Audio": ("vae", {}),
    "AutoencoderKLCogVideoX": ("vae", {}),
    "AutoencoderKLMochi": ("vae", {}),
    "AutoencoderKLCosmos": ("vae", {}),
    "AutoencoderDC": ("vae", {}),
    "AutoencoderOobleck": ("vae", {}),
    "AsymmetricAutoencoderKL": ("vae", {}),
    "ConsistencyDecoderVAE": ("vae", {}),
    "VQModel": ("vae", {}),
    # ControlNets.
    "ControlNetModel": ("controlnet", {}),
    "SparseControlNetModel": ("controlnet", {}),
    "FluxControlNetModel": ("controlnet", FLUX_LAYERS),
    "SD3ControlNetModel": ("controlnet", ONE_LAYER),
    "QwenImageControlNetModel": ("controlnet", ONE_LAYER),
    "SanaControlNetModel": ("controlnet", ONE_LAYER),
    "CosmosControlNetModel": ("controlnet", {}),
    "T2IAdapter": ("controlnet", {}),
}
ONE_HIDDEN: Options = {"num_hidden_layers": 1}
ENCODER_DECODER: Options = {"encoder_layers": 1, "decoder_layers": 1}
TRANSFORMERS: dict[str, tuple[str, Options]] = {
    # Encoders of text and of images.
    "CLIPTextModel": ("clip", {}),
    "CLIPTextModelWithProjection": ("clip", {}),
    "CLIPVisionModel": ("clip", {}),
    "CLIPVisionModelWithProjection": ("clip", {}),
    "CLIPModel": ("clip", {}),
    "ChineseCLIPModel": ("clip", {}),
    "ClapTextModelWithProjection": ("clip", {}),
    "T5EncoderModel": ("clip", ONE_LAYER),
    "MT5EncoderModel": ("clip", ONE_LAYER),
    "UMT5EncoderModel": ("clip", ONE_LAYER),
    "SiglipTextModel": ("clip", {}),
    "SiglipVisionModel": ("clip", {}),
    "SiglipModel": ("clip", {}),
    "Siglip2VisionModel": ("clip", {}),
    "Dinov2Model": ("clip", ONE_HIDDEN),
    "DINOv3ViTModel": ("clip", {}),
    # Language models.
    "LlamaForCausalLM": ("llm", ONE_HIDDEN),
    "LlamaModel": ("llm", ONE_HIDDEN),
    "MistralForCausalLM": ("llm", ONE_HIDDEN),
    "Qwen2ForCausalLM": ("llm", ONE_HIDDEN),
    "Qwen2Model": ("llm", ONE_HIDDEN),
    "Qwen3ForCausalLM": ("llm", ONE_HIDDEN),
    "Qwen3MoeForCausalLM": ("llm", {"num_hidden_layers": 1, "num_experts": 2}),
    "Qwen2_5_VLForConditionalGeneration": ("llm", {}),
    "Gemma2ForCausalLM": ("llm", ONE_HIDDEN),
    "Gemma3ForCausalLM": ("llm", ONE_HIDDEN),
    "Phi3ForCausalLM": ("llm", ONE_HIDDEN),
    "MixtralForCausalLM": ("llm", ONE_HIDDEN),
    "DeepseekV3ForCausalLM": ("llm", ONE_HIDDEN),
    "GPT2LMHeadModel": ("llm", {"n_layer": 1}),
    "GPTNeoXForCausalLM": ("llm", ONE_HIDDEN),
    "GptOssForCausalLM": ("llm", ONE_HIDDEN),
    "OPTForCausalLM": ("llm", ONE_HIDDEN),
    "T5ForConditionalGeneration": ("llm", ONE_LAYER),
    "BartForConditionalGeneration": ("llm", ENCODER_DECODER),
    "BloomForCausalLM": ("llm", {"n_layer": 1}),
    "FalconForCausalLM": ("llm", ONE_HIDDEN),
    "MambaForCausalLM": ("llm", ONE_HIDDEN),
    "LlavaForConditionalGeneration": ("llm", {}),
    "Florence2ForConditionalGeneration": ("llm", {}),
    # Embeddings, and what only begins like them.
    "BertModel": ("embedding", ONE_HIDDEN),
    "RobertaModel": ("embedding", ONE_HIDDEN),
    "XLMRobertaModel": ("embedding", ONE_HIDDEN),
    "MPNetModel": ("embedding", ONE_HIDDEN),
    "DistilBertModel": ("embedding", {"n_layers": 1}),
    "ModernBertModel": ("embedding", ONE_HIDDEN),
    "NomicBertModel": ("embedding", ONE_HIDDEN),
    "AlbertModel": ("embedding", {}),
    "ElectraModel": ("embedding", ONE_HIDDEN),
    "DebertaV2Model": ("embedding", ONE_HIDDEN),
    "BertForSequenceClassification": ("model", ONE_HIDDEN),
    "BertForMaskedLM": ("model", ONE_HIDDEN),
    # Depth.
    "DepthAnythingForDepthEstimation": ("depth", {}),
    "DPTForDepthEstimation": ("depth", {}),
    "ZoeDepthForDepthEstimation": ("depth", {}),
    "DepthProForDepthEstimation": ("depth", {}),
    "GLPNForDepthEstimation": ("depth", {}),
    # Upscalers.
    "Swin2SRForImageSuperResolution": ("upscaler", {}),
    # Sound.
    "WhisperForConditionalGeneration": ("audio", ENCODER_DECODER),
    "Wav2Vec2ForCTC": ("audio", ONE_HIDDEN),
    "Wav2Vec2BertModel": ("audio", ONE_HIDDEN),
    "HubertModel": ("audio", ONE_HIDDEN),
    "WavLMModel": ("audio", ONE_HIDDEN),
    "EncodecModel": ("audio", {}),
    "DacModel": ("audio", {}),
    "MimiModel": ("audio", {}),
    "ClapModel": ("audio", {}),
    "VitsModel": ("audio", {}),
    "SpeechT5HifiGan": ("audio", {}),
    "SpeechT5ForTextToSpeech": ("audio", {}),
    "MusicgenForCausalLM": ("audio", ONE_HIDDEN),
    "BarkModel": ("audio", {}),
    # Neither.
    "SamModel": ("model", {}),
    "Owlv2ForObjectDetection": ("model", {}),
    "ResNetModel": ("model", {}),
}
BY_CLASS_ALONE = {
    "AutoencoderTiny": ("diffusers", "vae"),
    "ViTModel": ("transformers", "clip"),
    "ASTModel": ("transformers", "audio"),
}
"""Architectures whose names inside could be anything's."""

ORIGINAL: dict[str, tuple[str, str]] = {
    "SD, ldm": (
        "checkpoint",
        "time_embed.0.weight input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight middle_block.1.proj_in.weight"
        " output_blocks.0.0.in_layers.0.weight out.0.weight",
    ),
    "SDXL, ldm": (
        "checkpoint",
        "time_embed.0.weight label_emb.0.0.weight input_blocks.0.0.weight output_blocks.0.0.in_layers.0.weight",
    ),
    "SD, whole checkpoint": (
        "checkpoint",
        "model.diffusion_model.input_blocks.0.0.weight first_stage_model.encoder.conv_in.weight"
        " cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
    ),
    "SD3": (
        "checkpoint",
        "joint_blocks.0.context_block.attn.qkv.weight x_embedder.proj.weight t_embedder.mlp.0.weight pos_embed",
    ),
    "Flux": (
        "checkpoint",
        "double_blocks.0.img_attn.qkv.weight single_blocks.0.linear1.weight img_in.weight txt_in.weight time_in.in_layer.weight",
    ),
    "AuraFlow": ("checkpoint", "double_layers.0.attn.w1q.weight single_layers.0.attn.w1q.weight cond_seq_linear.weight"),
    "Lumina 2": ("checkpoint", "noise_refiner.0.attention.qkv.weight context_refiner.0.attention.qkv.weight x_embedder.weight"),
    "HunyuanDiT": ("checkpoint", "blocks.0.attn1.Wqkv.weight mlp_t5.0.weight t_embedder.mlp.0.weight x_embedder.proj.weight"),
    "HunyuanVideo": (
        "checkpoint",
        "img_in.proj.weight txt_in.individual_token_refiner.blocks.0.self_attn_qkv.weight double_blocks.0.img_attn_qkv.weight"
        " single_blocks.0.linear1.weight",
    ),
    "Wan": (
        "checkpoint",
        "patch_embedding.weight text_embedding.0.weight time_embedding.0.weight time_projection.1.weight"
        " blocks.0.self_attn.q.weight blocks.0.ffn.0.weight head.modulation",
    ),
    "Wan with VACE": (
        "checkpoint",
        "patch_embedding.weight time_embedding.0.weight blocks.0.self_attn.q.weight vace_blocks.0.before_proj.weight"
        " vace_patch_embedding.weight",
    ),
    "VACE alone": ("model", "vace_blocks.0.before_proj.weight vace_blocks.0.ffn.0.weight vace_patch_embedding.weight"),
    "LTX": (
        "checkpoint",
        "patchify_proj.weight adaln_single.emb.timestep_embedder.linear_1.weight transformer_blocks.0.attn1.to_q.weight",
    ),
    "Qwen-Image": (
        "checkpoint",
        "transformer_blocks.0.attn.to_q.weight txt_norm.weight time_text_embed.timestep_embedder.linear_1.weight",
    ),
    "VAE, ldm": (
        "vae",
        "encoder.conv_in.weight encoder.mid.block_1.conv1.weight encoder.norm_out.weight decoder.up.0.block.0.conv1.weight"
        " quant_conv.weight post_quant_conv.weight",
    ),
    "VAE, Flux": (
        "vae",
        "encoder.conv_in.weight encoder.mid.attn_1.q.weight encoder.norm_out.weight decoder.up.0.block.0.conv1.weight",
    ),
    "VAE, Wan": ("vae", "encoder.downsamples.0.residual.0.gamma decoder.upsamples.0.residual.0.gamma conv1.weight conv2.weight"),
    "TAESD": ("vae", "taesd_encoder.0.weight taesd_decoder.1.weight"),
    "ControlNet, SD": (
        "controlnet",
        "zero_convs.0.0.weight input_hint_block.0.weight input_blocks.0.0.weight time_embed.0.weight",
    ),
    "ControlNet, Flux": ("controlnet", "controlnet_blocks.0.weight double_blocks.0.img_attn.qkv.weight img_in.weight"),
    "CLIP text, OpenCLIP": (
        "clip",
        "transformer.resblocks.0.attn.in_proj_weight token_embedding.weight ln_final.weight text_projection",
    ),
    "CLIP vision, OpenCLIP": ("clip", "conv1.weight class_embedding transformer.resblocks.0.attn.in_proj_weight ln_post.weight"),
    "T5": ("clip", "shared.weight encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
    "UMT5, Wan": (
        "clip",
        "token_embedding.weight blocks.0.attn.q.weight blocks.0.ffn.gate.0.weight blocks.0.pos_embedding.embedding.weight",
    ),
    "Llama": ("llm", "tok_embeddings.weight layers.0.attention.wq.weight layers.0.feed_forward.w1.weight output.weight"),
    "ESRGAN": (
        "upscaler",
        "conv_first.weight body.0.rdb1.conv1.weight conv_body.weight conv_up1.weight conv_hr.weight conv_last.weight",
    ),
    "ESRGAN, old": ("upscaler", "model.0.weight model.1.sub.0.RDB1.conv1.0.weight model.3.weight model.10.weight"),
    "SwinIR": ("upscaler", "conv_first.weight patch_embed.norm.weight conv_after_body.weight upsample.0.weight conv_last.weight"),
    "SPAN": ("upscaler", "conv_1.sk.weight block_1.c1_r.sk.weight block_6.c1_r.sk.weight conv_cat.weight upsampler.0.weight"),
    "DepthAnything": ("depth", "pretrained.cls_token depth_head.scratch.refinenet1.out_conv.weight depth_head.projects.0.weight"),
    "MiDaS": ("depth", "pretrained.layer1.0.weight scratch.refinenet1.resConfUnit1.conv1.weight scratch.output_conv.0.weight"),
    "Whisper": (
        "audio",
        "encoder.conv1.weight encoder.conv2.weight encoder.positional_embedding decoder.blocks.0.cross_attn.query.weight",
    ),
}
"""Architectures under the names of their own authors, as ComfyUI and others load them: some keys of their state dicts."""
