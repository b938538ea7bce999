from __future__ import annotations

import pytest

from gpumodels.kinds import BY_CLASS, BY_FOLDER, BY_NAMES, BY_SLOT, kind_of
from gpumodels_shared.schema import KINDS


@pytest.mark.parametrize(
    ("class_name", "kind"),
    [
        ("WanModel", "checkpoint"),
        ("WanTransformer3DModel", "checkpoint"),
        ("UNet2DConditionModel", "checkpoint"),
        ("SD3Transformer2DModel", "checkpoint"),
        ("FluxTransformer2DModel", "checkpoint"),
        ("AutoencoderKL", "vae"),
        ("AutoencoderKLWan", "vae"),
        ("VQModel", "vae"),
        ("ControlNetModel", "controlnet"),
        ("CLIPTextModel", "clip"),
        ("CLIPVisionModelWithProjection", "clip"),
        ("T5EncoderModel", "clip"),
        ("UMT5EncoderModel", "clip"),
        ("LlamaForCausalLM", "llm"),
        ("Qwen2Model", "llm"),
        ("GPT2LMHeadModel", "llm"),
        ("BertModel", "embedding"),
        ("SentenceTransformer", "embedding"),
        ("DepthAnythingForDepthEstimation", "depth"),
        ("DPTForDepthEstimation", "depth"),
        ("RRDBNet", "upscaler"),
        ("WhisperForConditionalGeneration", "audio"),
        ("Wav2Vec2ForCTC", "audio"),
        ("VaceModule", "model"),
        ("ResNet", "model"),
    ],
)
def test_a_class_name_tells_the_kind(class_name: str, kind: str) -> None:
    assert kind_of(class_name, set(), 0.0) == kind


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ({"blocks", "patch_embedding", "time_embedding", "head"}, "checkpoint"),
        ({"diffusion_model", "input_blocks"}, "checkpoint"),
        ({"encoder", "decoder", "quant_conv", "post_quant_conv"}, "vae"),
        ({"embed_tokens", "layers", "lm_head"}, "llm"),
        ({"vace_blocks", "vace_patch_embedding"}, "model"),
        ({"layer1", "fc"}, "model"),
    ],
)
def test_where_the_class_says_nothing_the_names_inside_tell(names: set[str], kind: str) -> None:
    assert kind_of("Net", names, 0.0) == kind


def test_adapters_come_first_whatever_their_class_and_a_base_with_an_adapter_is_still_the_base() -> None:
    assert kind_of("WanModel", {"lora_down", "lora_up"}, 1.0) == "lora"
    assert kind_of("WanModel", {"lora_A", "blocks"}, 0.02) == "checkpoint"


def test_every_kind_in_the_tables_is_one_of_the_schemas() -> None:
    assert {kind for kind, _ in (*BY_CLASS, *BY_NAMES, *BY_SLOT)} | set(BY_FOLDER.values()) <= set(KINDS)


@pytest.mark.parametrize(
    ("slot", "kind"),
    [
        ("unet", "checkpoint"),
        ("transformer_2", "checkpoint"),
        ("vae", "vae"),
        ("text_encoder_2", "clip"),
        ("image_encoder", "clip"),
        ("controlnet", "controlnet"),
        ("safety_checker", "model"),
    ],
)
def test_a_place_in_a_pipeline_tells_more_than_what_stands_there(slot: str, kind: str) -> None:
    assert kind_of("Net", set(), 0.0, slot) == kind
    assert kind_of("Qwen2ForCausalLM", {"embed_tokens", "lm_head"}, 0.0, "text_encoder") == "clip"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/ComfyUI/models/loras/wan/x.safetensors", "lora"),
        ("/ComfyUI/models/upscale_models/4x.pth", "upscaler"),
        ("/ComfyUI/models/text_encoders/x.safetensors", "clip"),
        ("/ComfyUI/models/checkpoints/x.safetensors", "model"),
        ("/vae/of/a/long/way/up/x.safetensors", "model"),
    ],
)
def test_where_the_names_inside_say_nothing_the_files_folder_tells(path: str, kind: str) -> None:
    assert kind_of("Net", set(), 0.0, None, (path,)) == kind
    assert kind_of("Net", {"double_blocks", "single_blocks"}, 0.0, None, (path,)) == "checkpoint"


DIFFUSERS: dict[str, tuple[str, dict[str, object]]] = {
    "UNet2DConditionModel": ("checkpoint", {}),
    "UNet2DModel": ("checkpoint", {}),
    "UNetSpatioTemporalConditionModel": ("checkpoint", {}),
    "SD3Transformer2DModel": ("checkpoint", {"num_layers": 1}),
    "FluxTransformer2DModel": ("checkpoint", {"num_layers": 1, "num_single_layers": 1}),
    "WanTransformer3DModel": ("checkpoint", {"num_layers": 1}),
    "WanVACETransformer3DModel": ("checkpoint", {"num_layers": 2, "vace_layers": [0]}),
    "HunyuanVideoTransformer3DModel": ("checkpoint", {"num_layers": 1, "num_single_layers": 1}),
    "LTXVideoTransformer3DModel": ("checkpoint", {"num_layers": 1}),
    "MochiTransformer3DModel": ("checkpoint", {"num_layers": 1}),
    "CogVideoXTransformer3DModel": ("checkpoint", {"num_layers": 1}),
    "QwenImageTransformer2DModel": ("checkpoint", {"num_layers": 1}),
    "PixArtTransformer2DModel": ("checkpoint", {"num_layers": 1}),
    "SanaTransformer2DModel": ("checkpoint", {"num_layers": 1}),
    "ChromaTransformer2DModel": ("checkpoint", {"num_layers": 1, "num_single_layers": 1}),
    "CosmosTransformer3DModel": ("checkpoint", {"num_layers": 1}),
    "PriorTransformer": ("checkpoint", {"num_layers": 1}),
    "Kandinsky3UNet": ("checkpoint", {}),
    "AutoencoderKL": ("vae", {}),
    "AutoencoderKLWan": ("vae", {}),
    "AutoencoderKLQwenImage": ("vae", {}),
    "AutoencoderKLTemporalDecoder": ("vae", {}),
    "AutoencoderKLHunyuanVideo": ("vae", {}),
    "AutoencoderKLLTXVideo": ("vae", {}),
    "AutoencoderKLCogVideoX": ("vae", {}),
    "VQModel": ("vae", {}),
    "ControlNetModel": ("controlnet", {}),
    "FluxControlNetModel": ("controlnet", {"num_layers": 1, "num_single_layers": 1}),
    "SD3ControlNetModel": ("controlnet", {"num_layers": 1}),
}
TRANSFORMERS: dict[str, tuple[str, dict[str, object]]] = {
    "CLIPTextModel": ("clip", {}),
    "CLIPVisionModelWithProjection": ("clip", {}),
    "CLIPModel": ("clip", {}),
    "T5EncoderModel": ("clip", {"num_layers": 1}),
    "UMT5EncoderModel": ("clip", {"num_layers": 1}),
    "SiglipVisionModel": ("clip", {}),
    "Dinov2Model": ("clip", {"num_hidden_layers": 1}),
    "LlamaForCausalLM": ("llm", {"num_hidden_layers": 1}),
    "LlamaModel": ("llm", {"num_hidden_layers": 1}),
    "Qwen3ForCausalLM": ("llm", {"num_hidden_layers": 1}),
    "Gemma2ForCausalLM": ("llm", {"num_hidden_layers": 1}),
    "MixtralForCausalLM": ("llm", {"num_hidden_layers": 1}),
    "GPT2LMHeadModel": ("llm", {"n_layer": 1}),
    "T5ForConditionalGeneration": ("llm", {"num_layers": 1}),
    "BloomForCausalLM": ("llm", {"n_layer": 1}),
    "FalconForCausalLM": ("llm", {"num_hidden_layers": 1}),
    "MambaForCausalLM": ("llm", {"num_hidden_layers": 1}),
    "BertModel": ("embedding", {"num_hidden_layers": 1}),
    "RobertaModel": ("embedding", {"num_hidden_layers": 1}),
    "BertForSequenceClassification": ("model", {"num_hidden_layers": 1}),
    "DepthAnythingForDepthEstimation": ("depth", {}),
    "DPTForDepthEstimation": ("depth", {}),
    "WhisperForConditionalGeneration": ("audio", {"encoder_layers": 1, "decoder_layers": 1}),
    "Wav2Vec2ForCTC": ("audio", {"num_hidden_layers": 1}),
}


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("library", "class_name"),
    [*(("diffusers", name) for name in DIFFUSERS), *(("transformers", name) for name in TRANSFORMERS)],
)
@pytest.mark.filterwarnings("ignore")
def test_real_architectures_are_known_by_the_names_inside_whatever_their_class(library: str, class_name: str) -> None:
    torch = pytest.importorskip("torch")
    module = pytest.importorskip(library)
    built = getattr(module, class_name)
    kind, options = (DIFFUSERS if library == "diffusers" else TRANSFORMERS)[class_name]
    with torch.device("meta"):
        model = built(**options) if library == "diffusers" else built(built.config_class(**options))
    tensors = [*model.named_parameters(), *model.named_buffers()]
    names = {part for path, _ in tensors for part in path.split(".")}
    assert kind_of("Net", names, 0.0) == kind
    assert kind_of(class_name, names, 0.0) == kind


def test_vaces_blocks_alone_are_no_backbone_wherever_their_file_lies() -> None:
    module = {"vace_blocks", "vace_patch_embedding", "self_attn", "ffn", "modulation"}
    files = ("/models/diffusion_models/VACE-Depth_bf16.safetensors",)
    assert kind_of("VaceModule", module, 0.0, files=files) == "model"
    whole = module | {"blocks", "patch_embedding", "time_embedding"}
    assert kind_of("VaceWanModel", whole, 0.0, files=files) == "checkpoint"
