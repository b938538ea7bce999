from __future__ import annotations

import pytest

from gpumodels.kinds import BY_CLASS, BY_NAMES, kind_of
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
    assert {kind for kind, _ in (*BY_CLASS, *BY_NAMES)} <= set(KINDS)
