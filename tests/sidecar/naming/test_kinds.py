from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from architectures import BY_CLASS_ALONE, DIFFUSERS, ORIGINAL, TRANSFORMERS, Options
from gpumodels.naming.kinds import BY_CLASS, BY_FOLDER, BY_NAMES, BY_SLOT, kind_of
from gpumodels_shared.schema import KINDS
from modules import Backbone, attached


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
def test_a_slot_of_a_pipeline_tells_more_than_the_model_in_it(slot: str, kind: str) -> None:
    assert kind_of("Net", set(), 0.0, slot) == kind
    assert kind_of("Qwen2ForCausalLM", {"embed_tokens", "lm_head"}, 0.0, "text_encoder") == "clip"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/ComfyUI/models/loras/wan/x.safetensors", "lora"),
        ("/ComfyUI/models/upscale_models/4x.pth", "upscaler"),
        ("/ComfyUI/models/text_encoders/x.safetensors", "clip"),
        ("/ComfyUI/models/depthanything/x.safetensors", "depth"),
        ("/ComfyUI/models/audio_encoders/x.safetensors", "audio"),
        ("/ComfyUI/models/checkpoints/x.safetensors", "model"),
        ("/webui/models/Lora/x.safetensors", "lora"),
        ("/webui/models/ESRGAN/4x.pth", "upscaler"),
        ("/webui/models/Stable-diffusion/x.safetensors", "model"),
        ("/vae/of/a/long/way/up/x.safetensors", "model"),
    ],
)
def test_where_the_names_inside_say_nothing_the_files_folder_tells(path: str, kind: str) -> None:
    assert kind_of("Net", set(), 0.0, None, (path,)) == kind
    assert kind_of("Net", {"double_blocks", "single_blocks"}, 0.0, None, (path,)) == "checkpoint"


@pytest.mark.parametrize("architecture", ORIGINAL)
def test_architectures_are_known_by_their_authors_names_too(architecture: str) -> None:
    kind, keys = ORIGINAL[architecture]
    names = {part for key in keys.split() for part in key.split(".")}
    assert kind_of("Net", names, 0.0) == kind


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
    kind, options = (DIFFUSERS if library == "diffusers" else TRANSFORMERS)[class_name]
    class_name = class_name.partition("/")[0]
    built = getattr(module, class_name, None)
    if built is None:
        pytest.skip(f"this {library} has no {class_name}")
    with torch.device("meta"):
        model = built(**options) if library == "diffusers" else built(built.config_class(**options))
    names = names_inside(model)
    assert kind_of("Net", names, 0.0) == kind
    assert kind_of(class_name, names, 0.0) == kind


def names_inside(model: Any) -> set[str]:
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {part for path, _ in tensors for part in path.split(".")}


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("class_name", BY_CLASS_ALONE)
@pytest.mark.filterwarnings("ignore")
def test_real_architectures_with_names_like_anybodys_are_known_by_their_class(class_name: str) -> None:
    torch = pytest.importorskip("torch")
    library, kind = BY_CLASS_ALONE[class_name]
    built = getattr(pytest.importorskip(library), class_name)
    with torch.device("meta"):
        model = built() if library == "diffusers" else built(built.config_class())
    assert kind_of(class_name, names_inside(model), 0.0) == kind


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("LoraConfig", {}),
        ("LoraConfig", {"use_dora": True}),
        ("LoHaConfig", {}),
        ("LoKrConfig", {}),
        ("LoKrConfig", {"decompose_both": True, "r": 2}),
        ("OFTConfig", {"oft_block_size": 32, "r": 0}),
        ("BOFTConfig", {"boft_block_size": 8}),
        ("IA3Config", {"feedforward_modules": []}),
        ("VeraConfig", {}),
        ("HRAConfig", {}),
    ],
)
def test_an_adapter_of_each_sort_is_a_lora_of_its_own_and_leaves_its_base_the_kind(config: str, options: Options) -> None:
    peft = pytest.importorskip("peft")
    with attached() as sidecar:
        base = Backbone()
        model = peft.get_peft_model(base, getattr(peft, config)(target_modules=["q"], **options), adapter_name="style")
        found = {one.id: one for one in sidecar.models()}
        (adapter,) = [one for one in found.values() if one.parent is not None]
        assert (adapter.kind, adapter.name) == ("lora", "style")
        assert (found[adapter.parent or ""].kind, found[adapter.parent or ""].class_name) == ("model", "Backbone")
        by_hand = sum(p.numel() * p.element_size() for key, p in model.named_parameters() if ".style" in key)
        assert adapter.resident_bytes >= by_hand > 0


@pytest.mark.parametrize(
    "names",
    [
        ("lora_down", "lora_up"),
        ("lora_A", "lora_B"),
        ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
        ("lokr_w1", "lokr_w2"),
        ("lora_down", "lora_up", "dora_scale"),
        ("oft_diag",),
    ],
)
def test_a_network_of_adapters_is_a_lora_whatever_trained_it(names: tuple[str, ...]) -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in names:
                self.register_parameter(name, nn.Parameter(torch.zeros(64, 64)))

    with attached() as sidecar:
        network = nn.Module()
        for number in range(8):
            network.add_module(f"layer_{number}", Layer())
        (found,) = sidecar.models()
        assert (found.kind, found.layers) == ("lora", 9)
        del network


def test_vaces_blocks_alone_are_no_backbone_wherever_their_file_lies() -> None:
    module = {"vace_blocks", "vace_patch_embedding", "self_attn", "ffn", "modulation"}
    files = ("/models/diffusion_models/VACE-Depth_bf16.safetensors",)
    assert kind_of("VaceModule", module, 0.0, files=files) == "model"
    whole = module | {"blocks", "patch_embedding", "time_embedding"}
    assert kind_of("VaceWanModel", whole, 0.0, files=files) == "checkpoint"
