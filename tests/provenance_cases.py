"""Real loads: files of tiny random models, the ways in which people load them, and the name that each must get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PREPARE: Final = """
import os, sys, warnings
warnings.simplefilter("ignore")
os.environ["HF_HUB_OFFLINE"] = "1"
import gguf, torch
from gguf import GGMLQuantizationType, quants
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from diffusers import AutoencoderKL, FluxTransformer2DModel, LTXVideoTransformer3DModel, UNet2DConditionModel
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from transformers import BertConfig, BertModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers import LlamaConfig, LlamaForCausalLM
from transformers import MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
os.chdir(sys.argv[1])
torch.manual_seed(7)

def a_unet(cross):
    return UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=8, norm_num_groups=8, attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross)

def a_vae():
    return AutoencoderKL(block_out_channels=(32,), norm_num_groups=8)

def a_clip(cls=CLIPTextModel):
    return cls(CLIPTextConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                              vocab_size=600, projection_dim=32, max_position_embeddings=16))

StableDiffusionPipeline(a_vae(), a_clip(), None, a_unet(32), DDIMScheduler(), None, None,
                        requires_safety_checker=False).save_pretrained("tiny-sd")
StableDiffusionXLPipeline(a_vae(), a_clip(), a_clip(CLIPTextModelWithProjection), None, None, a_unet(64),
                          DDIMScheduler()).save_pretrained("tiny-xl")
FluxTransformer2DModel(patch_size=1, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=16,
                       num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
                       axes_dims_rope=(4, 4, 8)).save_pretrained("tiny-flux/transformer")

ltx = LTXVideoTransformer3DModel(in_channels=16, out_channels=16, num_attention_heads=4, attention_head_dim=16,
                                 cross_attention_dim=64, num_layers=2, caption_channels=32)
ltx.save_pretrained("ltx-config")
os.remove("ltx-config/diffusion_pytorch_model.safetensors")
THEIRS = {"proj_in": "patchify_proj", "time_embed": "adaln_single", "norm_q": "q_norm", "norm_k": "k_norm"}
def original(key):
    for ours, theirs in THEIRS.items():
        key = key.replace(ours, theirs)
    return key
save_file({"model.diffusion_model." + original(k): v.contiguous() for k, v in ltx.state_dict().items()},
          "ltx-mytune_v2.safetensors")
writer = gguf.GGUFWriter("ltx-mytune_v2-Q8_0.gguf", "ltxv")
for key, value in ltx.state_dict().items():
    array = value.numpy()
    if array.ndim == 2 and array.shape[1] % 32 == 0:
        writer.add_tensor(original(key), quants.quantize(array, GGMLQuantizationType.Q8_0), raw_dtype=GGMLQuantizationType.Q8_0)
    else:
        writer.add_tensor(original(key), array)
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()

a_bert = lambda: BertModel(BertConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
                                      vocab_size=1000))
a_bert().save_pretrained("tiny-bert")
bert = a_bert()
bert.config.save_pretrained("bert-in-bin")
torch.save(bert.state_dict(), "bert-in-bin/pytorch_model.bin")
llama = LlamaForCausalLM(LlamaConfig(hidden_size=64, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=2,
                                     intermediate_size=128, vocab_size=1000))
llama.save_pretrained("tiny-llama")
with torch.no_grad():  # a fine-tune of it
    for parameter in llama.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))
llama.save_pretrained("sharded-llama", max_shard_size="300KB")
adapted = get_peft_model(llama, LoraConfig(r=16, target_modules=["q_proj", "v_proj", "up_proj"], init_lora_weights=False))
adapted.save_pretrained("my-adapter")
mixture = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=256)
Qwen3MoeForCausalLM(Qwen3MoeConfig(**mixture, head_dim=16, moe_intermediate_size=64, num_experts=8,
                                   num_experts_per_tok=2)).save_pretrained("tiny-qwen-moe")
MixtralForCausalLM(MixtralConfig(**mixture, intermediate_size=128, num_local_experts=4)).save_pretrained("tiny-mixtral")
for parameter in adapted.parameters():
    if parameter.requires_grad:
        torch.nn.init.normal_(parameter)
adapted.save_pretrained("other-adapter")
LlamaForCausalLM(LlamaConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
                             intermediate_size=128, vocab_size=1000)).save_pretrained("tiny-draft")
digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
repository = "hub/models--org--shared-net"
for directory in ("hub/blobs/9f", repository + "/blobs", repository + "/snapshots/0a1b"):
    os.makedirs(directory)
save_file({f"blocks.{i}.{n}.{p}": torch.randn((64, 64) if p == "weight" else 64)
           for i in range(6) for n in "qkv" for p in ("weight", "bias")}, f"hub/blobs/9f/{digest}")
os.symlink(f"../../blobs/9f/{digest}", repository + "/blobs/e7a9")
os.symlink("../../blobs/e7a9", repository + "/snapshots/0a1b/model.safetensors")
names = [("model.embed_tokens", "token_embd"), ("model.layers.", "blk."), ("self_attn.q_proj", "attn_q"),
         ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"),
         ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"),
         ("post_attention_layernorm", "ffn_norm"), ("input_layernorm", "attn_norm"), ("model.norm", "output_norm"),
         ("lm_head", "output")]
os.mkdir("llama-ggufs")
writer = gguf.GGUFWriter("llama-ggufs/tiny-llama-f32.gguf", "llama")
for add, number in ((writer.add_context_length, 512), (writer.add_embedding_length, 64), (writer.add_block_count, 4),
                    (writer.add_feed_forward_length, 128), (writer.add_head_count, 2), (writer.add_head_count_kv, 2),
                    (writer.add_vocab_size, 1000), (writer.add_rope_dimension_count, 32), (writer.add_layer_norm_rms_eps, 1e-6)):
    add(number)
for key, value in LlamaForCausalLM.from_pretrained("tiny-llama").state_dict().items():
    for ours, theirs in names:
        key = key.replace(ours, theirs)
    writer.add_tensor(key, value.numpy())
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()

def a_net(seed):
    generator = torch.Generator().manual_seed(seed)
    return {f"blocks.{i}.{part}.{kind}": torch.randn((64, 64) if kind == "weight" else (64,), generator=generator) / 8
            for i in range(6) for part in "qkv" for kind in ("weight", "bias")}
for seed, name in enumerate(("alpha_v1", "beta_v1", "gamma_v1", "delta_v1")):
    save_file(a_net(seed), f"{name}.safetensors")
save_file({f"model.diffusion_model.{k}": v for k, v in a_net(11).items()}, "prefixed_v1.safetensors")
whole = a_net(12)
save_file({k: v for k, v in whole.items() if "blocks.0" in k}, "two_parts-00001-of-00002.safetensors")
save_file({k: v for k, v in whole.items() if "blocks.0" not in k}, "two_parts-00002-of-00002.safetensors")
save_file({f"{part}.{k}": v for part, seed in (("unet", 13), ("vae", 14)) for k, v in a_net(seed).items()},
          "both_v1.safetensors")
torch.save(a_net(15), "plain_v1.pt")
torch.save({"state_dict": a_net(16), "epoch": 3, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}}, "nested_v1.ckpt")
torch.save(a_net(17), "mapped_v1.pth")
linears = lambda: torch.nn.Sequential(*(torch.nn.Linear(128, 128) for _ in range(3))).eval()
torch.jit.save(torch.jit.script(linears()), "scripted_v1.pt")
torch.jit.save(torch.jit.trace(linears(), torch.zeros(1, 128)), "traced_v1.pt")
torch.jit.save(torch.jit.freeze(torch.jit.script(linears())), "frozen_v1.pt")
base = a_net(20)
os.mkdir("tunes")
for number in range(61):
    generator = torch.Generator().manual_seed(1000 + number)
    save_file({k: v + 1e-3 * torch.randn(v.shape, generator=generator) for k, v in base.items()},
              f"tunes/tune{number:02}.safetensors")
"""
"""Writes all files into the directory of its argument."""

IMPORTS: Final = """
import accelerate, diffusers, gguf, peft, transformers, safetensors, torch
from diffusers import AutoencoderKL, ControlNetModel, FluxTransformer2DModel, GGUFQuantizationConfig, LTXVideoTransformer3DModel
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, BertModel, LlamaForCausalLM
for library in (diffusers, transformers):
    library.utils.logging.set_verbosity_error()
nothing = {name: None for name in ("tokenizer", "feature_extractor", "image_encoder")}
"""

NET: Final = """
import torch
from safetensors.torch import load_file
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(64, 64) for _ in range(3))

class Net(nn.Module):
    def __init__(self, prefix=None):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(6))

def loaded(state, net=None, **options):
    net = net or Net()
    net.load_state_dict(state, **options)
    return net
"""
"""The modules that the plain files are for."""

START: Final = """
import gpumodels
gpumodels.start()
"""

SETUP: Final = """
import os, warnings
warnings.simplefilter("ignore")
os.environ["HF_HUB_OFFLINE"] = "1"
"""


@dataclass(frozen=True)
class Case:
    """One way of loading, and what must come of it."""

    name: str
    source: str
    """Statements that leave the models in `kept`."""
    expected: tuple[tuple[str | None, str | None], ...]
    """(name, a file's ending) for each model, in any order; a name of None: none may be claimed."""
    confidence: float | None = None
    """What each name's confidence must be, where that is the point."""


def _pipeline(name: str, *folders: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"{name}/{folder}/") for folder in folders)


_SD = ("unet", "vae", "text_encoder")

CASES: Final = (
    Case(
        "diffusers: SD pipeline",
        "kept = StableDiffusionPipeline.from_pretrained('tiny-sd', **nothing, safety_checker=None)",
        _pipeline("tiny-sd", *_SD),
    ),
    Case(
        "diffusers: SD pipeline in half",
        "kept = StableDiffusionPipeline.from_pretrained('tiny-sd', **nothing, safety_checker=None, torch_dtype=torch.float16)",
        _pipeline("tiny-sd", *_SD),
    ),
    Case(
        "diffusers: SDXL pipeline in half",
        "kept = StableDiffusionXLPipeline.from_pretrained('tiny-xl', **nothing, tokenizer_2=None, torch_dtype=torch.float16)",
        _pipeline("tiny-xl", *_SD, "text_encoder_2"),
    ),
    Case(
        "diffusers: Flux",
        "kept = FluxTransformer2DModel.from_pretrained('tiny-flux', subfolder='transformer')",
        (("tiny-flux", "tiny-flux/transformer/"),),
    ),
    Case(
        "diffusers: Flux in bfloat16",
        "kept = FluxTransformer2DModel.from_pretrained('tiny-flux', subfolder='transformer', torch_dtype=torch.bfloat16)",
        (("tiny-flux", "tiny-flux/transformer/"),),
    ),
    Case(
        "diffusers: Flux, file read whole",
        "kept = FluxTransformer2DModel.from_pretrained('tiny-flux', subfolder='transformer', disable_mmap=True)",
        (("tiny-flux", "tiny-flux/transformer/"),),
    ),
    Case(
        "diffusers: single file",
        "kept = LTXVideoTransformer3DModel.from_single_file('ltx-mytune_v2.safetensors', config='ltx-config')",
        (("ltx-mytune_v2", "ltx-mytune_v2.safetensors"),),
    ),
    Case(
        "diffusers: single file in half",
        "kept = LTXVideoTransformer3DModel.from_single_file("
        "'ltx-mytune_v2.safetensors', config='ltx-config', torch_dtype=torch.float16)",
        (("ltx-mytune_v2", "ltx-mytune_v2.safetensors"),),
    ),
    Case(
        "diffusers: GGUF",
        "kept = LTXVideoTransformer3DModel.from_single_file('ltx-mytune_v2-Q8_0.gguf', config='ltx-config',"
        " quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32))",
        (("ltx-mytune_v2", "ltx-mytune_v2-Q8_0.gguf"),),
    ),
    Case(
        "diffusers: groups of leaves offloaded to disk right after loading",
        """
kept = UNet2DConditionModel.from_pretrained("tiny-sd", subfolder="unet")
kept.enable_group_offload(torch.device("cpu"), torch.device("cpu"), offload_type="leaf_level", offload_to_disk_path="leaves")
""",
        (("tiny-sd", "tiny-sd/unet/"),),
    ),
    Case(
        "diffusers: blocks offloaded to disk, cast, after a step",
        """
kept = UNet2DConditionModel.from_pretrained("tiny-sd", subfolder="unet", torch_dtype=torch.bfloat16)
kept.enable_group_offload(torch.device("cpu"), torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1,
                          offload_to_disk_path="blocks")
with torch.no_grad():
    kept(torch.ones(1, 4, 8, 8).bfloat16(), 1, torch.ones(1, 4, 32).bfloat16())
""",
        (("tiny-sd", "tiny-sd/unet/"),),
    ),
    Case("transformers: single file", "kept = BertModel.from_pretrained('tiny-bert')", (("tiny-bert", "tiny-bert/"),)),
    Case(
        "transformers: cast on load",
        "kept = AutoModel.from_pretrained('tiny-bert', dtype=torch.float16)",
        (("tiny-bert", "tiny-bert/"),),
    ),
    Case("transformers: .bin", "kept = BertModel.from_pretrained('bert-in-bin')", (("bert-in-bin", "bert-in-bin/"),)),
    Case(
        "transformers: .bin, cast",
        "kept = BertModel.from_pretrained('bert-in-bin', dtype=torch.bfloat16)",
        (("bert-in-bin", "bert-in-bin/"),),
    ),
    Case(
        "transformers: shards",
        "kept = LlamaForCausalLM.from_pretrained('sharded-llama')",
        (("sharded-llama", "sharded-llama/"),),
    ),
    Case(
        "transformers: shards, cast",
        "kept = LlamaForCausalLM.from_pretrained('sharded-llama', dtype=torch.bfloat16)",
        (("sharded-llama", "sharded-llama/"),),
    ),
    Case(
        "transformers: cast, then moved and cast again",
        "kept = LlamaForCausalLM.from_pretrained('sharded-llama', dtype=torch.bfloat16).half().float()",
        (("sharded-llama", "sharded-llama/"),),
    ),
    Case(
        "transformers: experts fused while loading, each in a tensor of its own in the file",
        "kept = AutoModelForCausalLM.from_pretrained('tiny-qwen-moe')",
        (("tiny-qwen-moe", "tiny-qwen-moe/"),),
        confidence=0.97,
    ),
    Case(
        "transformers: experts renamed, fused and cast while loading",
        "kept = AutoModelForCausalLM.from_pretrained('tiny-mixtral', dtype=torch.bfloat16)",
        (("tiny-mixtral", "tiny-mixtral/"),),
        confidence=0.97,
    ),
    Case(
        "transformers: one of the experts fused while loading patched",
        """
kept = AutoModelForCausalLM.from_pretrained("tiny-qwen-moe")
with torch.no_grad():
    for layer in kept.model.layers:
        layer.mlp.experts.down_proj[3].mul_(1.5)
del layer
""",
        (("tiny-qwen-moe", "tiny-qwen-moe/"),),
        confidence=0.75,
    ),
    Case(
        "transformers: GGUF",
        "kept = LlamaForCausalLM.from_pretrained('llama-ggufs', gguf_file='tiny-llama-f32.gguf')",
        (("tiny-llama", ".gguf"),),
    ),
    Case(
        "transformers: a config, and no weights",
        "kept = AutoModel.from_config(AutoConfig.from_pretrained('tiny-bert'))",
        ((None, None),),
    ),
    Case(
        "transformers: a config of pickled weights, and no weights",
        "kept = AutoModel.from_config(AutoConfig.from_pretrained('bert-in-bin'))",
        ((None, None),),
    ),
    Case(
        "transformers: other values over a checkpoint's",
        """
kept = BertModel.from_pretrained("tiny-bert")
kept.load_state_dict({key: torch.randn(value.shape).to(value.dtype) for key, value in kept.state_dict().items()})
""",
        ((None, None),),
    ),
    Case(
        "transformers: another checkpoint's values, copied in place",
        """
kept = BertModel.from_pretrained("tiny-bert")
with torch.no_grad():
    state = torch.load("bert-in-bin/pytorch_model.bin")
    for key, parameter in kept.named_parameters():
        parameter.copy_(state[key])
del state, parameter
""",
        (("bert-in-bin", "bert-in-bin/"),),
    ),
    Case(
        "diffusers: a pipeline with a component of one's own",
        "kept = StableDiffusionPipeline.from_pretrained('tiny-sd', **nothing, safety_checker=None,"
        " unet=UNet2DConditionModel.from_config(UNet2DConditionModel.load_config('tiny-sd/unet')))",
        ((None, None), *_pipeline("tiny-sd", "vae", "text_encoder")),
    ),
    Case(
        "accelerate: tensors set one by one, cast",
        """
state = load_file("alpha_v1.safetensors")
with accelerate.init_empty_weights():
    kept = Net()
for key, value in state.items():
    accelerate.utils.set_module_tensor_to_device(kept, key, "cpu", value=value, dtype=torch.float16)
del state, value
""",
        (("alpha_v1", "alpha_v1.safetensors"),),
    ),
    Case(
        "accelerate: load_checkpoint_and_dispatch",
        """
with accelerate.init_empty_weights():
    kept = Net()
kept = accelerate.load_checkpoint_and_dispatch(kept, "beta_v1.safetensors", device_map={"": "cpu"}, dtype=torch.float16)
""",
        (("beta_v1", "beta_v1.safetensors"),),
    ),
    Case(
        "accelerate: offloaded to disk right after loading, beside a second of the same folder",
        """
kept = [BertModel.from_pretrained("tiny-bert") for _ in range(2)]
accelerate.disk_offload(kept[0], "offloaded", execution_device="cpu")
""",
        (("tiny-bert", "tiny-bert/"),) * 2,
    ),
    Case(
        "accelerate: cast, offloaded to disk and used, beside a second of the same folder",
        """
kept = [BertModel.from_pretrained("tiny-bert", dtype=torch.bfloat16) for _ in range(2)]
accelerate.disk_offload(kept[0], "offloaded-in-half", execution_device="cpu")
kept[0](torch.arange(8)[None])
""",
        (("tiny-bert", "tiny-bert/"),) * 2,
    ),
    Case(
        "accelerate: loaded to disk, beside a second of the same folder",
        """
places = {"embeddings": "cpu", "encoder": "disk", "pooler": "disk"}
kept = [BertModel.from_pretrained("tiny-bert", device_map=places, offload_folder="elsewhere"),
        BertModel.from_pretrained("tiny-bert")]
""",
        (("tiny-bert", "tiny-bert/"),) * 2,
    ),
    Case(
        "peft: an adapter on its base",
        "kept = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained('tiny-llama'), 'my-adapter')",
        (("tiny-llama", "tiny-llama/"), ("my-adapter", "my-adapter/")),
    ),
    Case(
        "peft: an adapter merged into its base",
        "kept = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained('tiny-llama'), 'my-adapter').merge_and_unload()",
        (("tiny-llama", "tiny-llama/"),),
    ),
    Case("load_state_dict", "kept = loaded(load_file('gamma_v1.safetensors'))", (("gamma_v1", "gamma_v1.safetensors"),)),
    Case(
        "load_state_dict, assigned",
        "kept = loaded(load_file('gamma_v1.safetensors'), assign=True)",
        (("gamma_v1", "gamma_v1.safetensors"),),
    ),
    Case(
        "load_state_dict: renamed",
        "kept = loaded({k.removeprefix('model.diffusion_model.'): v for k, v in load_file('prefixed_v1.safetensors').items()})",
        (("prefixed_v1", "prefixed_v1.safetensors"),),
    ),
    Case(
        "load_state_dict: in half",
        "kept = loaded({k: v.half() for k, v in load_file('delta_v1.safetensors').items()}, Net().half())",
        (("delta_v1", "delta_v1.safetensors"),),
    ),
    Case(
        "load_state_dict: renamed, in half and back",
        "kept = loaded({k.removeprefix('model.diffusion_model.'): v.bfloat16()"
        " for k, v in load_file('prefixed_v1.safetensors').items()})",
        (("prefixed_v1", "prefixed_v1.safetensors"),),
    ),
    Case(
        "load_state_dict: in half, then gone to where values can't be read",
        "kept = loaded({k: v.half() for k, v in load_file('delta_v1.safetensors').items()}, Net().half()).to('meta')",
        (("delta_v1", "delta_v1.safetensors"),),
    ),
    Case(
        "load_state_dict: several files, one module",
        "kept = loaded({k: v for i in (1, 2) for k, v in load_file(f'two_parts-0000{i}-of-00002.safetensors').items()})",
        (("two_parts", "two_parts-00001-of-00002.safetensors"),),
    ),
    Case(
        "load_state_dict: one file, several modules",
        """
state = load_file("both_v1.safetensors")
kept = [loaded({k.removeprefix(part): v for k, v in state.items() if k.startswith(part)}) for part in ("unet.", "vae.")]
del state
""",
        (("both_v1", "both_v1.safetensors"),) * 2,
    ),
    Case(
        "load_state_dict: another file over the first",
        "kept = loaded(load_file('beta_v1.safetensors'), loaded(load_file('alpha_v1.safetensors')))",
        (("beta_v1", "beta_v1.safetensors"),),
    ),
    Case(
        "load_state_dict: values from nowhere over a file's",
        "kept = loaded({k: torch.randn_like(v) for k, v in Net().state_dict().items()},"
        " loaded(load_file('alpha_v1.safetensors'), assign=True))",
        ((None, None),),
    ),
    Case(
        "load_state_dict: another model's",
        "kept = loaded(loaded(load_file('alpha_v1.safetensors')).state_dict())",
        (("alpha_v1", "alpha_v1.safetensors"),),
    ),
    Case(
        "a part of another file over the first",
        "kept = loaded(load_file('alpha_v1.safetensors'))\n"
        "kept.load_state_dict({k: v for k, v in load_file('beta_v1.safetensors').items() if 'blocks.0' in k}, strict=False)",
        (("alpha_v1", "alpha_v1.safetensors"),),
    ),
    Case(
        "two of one class at once",
        "kept = [loaded(load_file(f'{name}_v1.safetensors')) for name in ('alpha', 'beta')]",
        (("alpha_v1", "alpha_v1.safetensors"), ("beta_v1", "beta_v1.safetensors")),
    ),
    Case("torch.load: .pt", "kept = loaded(torch.load('plain_v1.pt'))", (("plain_v1", "plain_v1.pt"),)),
    Case(
        "torch.load: .pt in half",
        "kept = loaded({k: v.half() for k, v in torch.load('plain_v1.pt').items()}, Net().half())",
        (("plain_v1", "plain_v1.pt"),),
    ),
    Case(
        "torch.jit.load: scripted, traced and frozen",
        "kept = [torch.jit.load(f'{name}_v1.pt') for name in ('scripted', 'traced', 'frozen')]",
        (("scripted_v1", "scripted_v1.pt"), ("traced_v1", "traced_v1.pt"), ("frozen_v1", "frozen_v1.pt")),
    ),
    Case(
        "torch.jit.load: from an open file, then in half",
        "with open('traced_v1.pt', 'rb') as file:\n    kept = torch.jit.load(file).half()",
        (("traced_v1", "traced_v1.pt"),),
    ),
    Case(
        "torch.load: a file of torch.jit.save",
        "kept = torch.load('scripted_v1.pt', weights_only=False)",
        (("scripted_v1", "scripted_v1.pt"),),
    ),
    Case(
        "torch.load: a nested .ckpt from an open file",
        "with open('nested_v1.ckpt', 'rb') as file:\n    kept = loaded(torch.load(file)['state_dict'])",
        (("nested_v1", "nested_v1.ckpt"),),
    ),
    Case(
        "torch.load: put back by custom code",
        "torch.load = torch.serialization.load\nkept = loaded(torch.load('plain_v1.pt'))",
        (("plain_v1", "plain_v1.pt"),),
        confidence=0.95,
    ),
    Case(
        "torch.load: wrapped by custom code, and a copy of it kept from before",
        """
unwrapped = torch.load
def with_more(*arguments, **options):
    return unwrapped(*arguments, **{"weights_only": False, **options})
torch.load = torch.serialization.load = with_more
kept = [loaded(torch.load("plain_v1.pt")), loaded(torch.load("nested_v1.ckpt")["state_dict"])]
torch.load = torch.serialization.load = unwrapped
""",
        (("plain_v1", "plain_v1.pt"), ("nested_v1", "nested_v1.ckpt")),
        confidence=0.95,
    ),
    Case(
        "load_state_dict: trained, saved and loaded again",
        """
kept = loaded(load_file("alpha_v1.safetensors"))
with torch.no_grad():
    for parameter in kept.parameters():
        parameter.add_(1e-3 * torch.randn_like(parameter))
torch.save(kept.state_dict(), "trained_v1.pt")
with torch.no_grad():
    for parameter in kept.parameters():
        parameter.add_(1e-3 * torch.randn_like(parameter))
kept.load_state_dict(torch.load("trained_v1.pt"))
del parameter
""",
        (("trained_v1", "trained_v1.pt"),),
    ),
    Case(
        "load_state_dict: many small tensors, which are a third of the model",
        """
kept = nn.ModuleDict({"small": Net(), "large": nn.ModuleList(nn.Linear(512, 160) for _ in range(2))})
kept.load_state_dict({f"small.{key}": value for key, value in load_file("alpha_v1.safetensors").items()}, strict=False)
""",
        ((None, None),),
    ),
    Case(
        "transformers: a mixture of experts whose experts were never loaded",
        """
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
kept = Qwen3MoeForCausalLM(Qwen3MoeConfig(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=256, head_dim=16,
    moe_intermediate_size=64, num_experts=8, num_experts_per_tok=2))
state = load_file("tiny-qwen-moe/model.safetensors")
kept.load_state_dict({key: value for key, value in state.items() if "experts" not in key}, strict=False)
del state
""",
        ((None, None),),
    ),
    Case(
        "diffusers: a ControlNet that copies its UNet's first blocks",
        """
kept = [UNet2DConditionModel.from_pretrained("tiny-sd", subfolder="unet")]
kept.append(ControlNetModel.from_unet(kept[0], conditioning_embedding_out_channels=(16, 32)))
""",
        (("tiny-sd", "tiny-sd/unet/"), (None, None)),
    ),
    Case(
        "load_state_dict: saved and loaded again",
        "kept = loaded(load_file('alpha_v1.safetensors'))\n"
        "torch.save(kept.state_dict(), 'swap.pt')\nkept.load_state_dict(torch.load('swap.pt'))",
        (("alpha_v1", "alpha_v1.safetensors"),),
    ),
    Case(
        "torch.load: mapped .pth, assigned",
        "kept = loaded(torch.load('mapped_v1.pth', mmap=True), assign=True)",
        (("mapped_v1", "mapped_v1.pth"),),
    ),
    Case(
        "torch.load: parameters set by hand",
        """
kept = Net()
for key, value in torch.load("plain_v1.pt").items():
    owner, _, name = key.rpartition(".")
    setattr(kept.get_submodule(owner), name, nn.Parameter(value))
del value
""",
        (("plain_v1", "plain_v1.pt"),),
    ),
    Case(
        "safetensors: bytes, with the file open",
        "with open('alpha_v1.safetensors', 'rb') as file:\n    kept = loaded(load(file.read()))",
        (("alpha_v1", "alpha_v1.safetensors"),),
    ),
    Case(
        "safetensors: bytes, with the file closed",
        "from pathlib import Path\nkept = loaded(load(Path('alpha_v1.safetensors').read_bytes()))",
        (("alpha_v1", "alpha_v1.safetensors"),),
    ),
    Case(
        "safetensors: safe_open, tensor by tensor",
        """
with safe_open("gamma_v1.safetensors", framework="pt") as file:
    kept = loaded({key: file.get_tensor(key) for key in file.keys()})
""",
        (("gamma_v1", "gamma_v1.safetensors"),),
    ),
    Case(
        "safetensors: safe_open, without a mapping",
        "kept = loaded(load_file('gamma_v1.safetensors', backend='pread'))",
        (("gamma_v1", "gamma_v1.safetensors"),),
    ),
    Case(
        "transformers: a draft that takes its target's embedding and head",
        """
kept = [LlamaForCausalLM.from_pretrained("tiny-llama"), LlamaForCausalLM.from_pretrained("tiny-draft")]
kept[1].model.embed_tokens.weight, kept[1].lm_head.weight = kept[0].model.embed_tokens.weight, kept[0].lm_head.weight
""",
        (("tiny-llama", "tiny-llama/"), ("tiny-draft", "tiny-draft/")),
    ),
    Case(
        "peft: an adapter whose weights are swapped in place",
        """
from peft.utils.hotswap import hotswap_adapter
kept = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained("tiny-llama"), "my-adapter")
hotswap_adapter(kept, "other-adapter", adapter_name="default")
""",
        (("tiny-llama", "tiny-llama/"), ("other-adapter", "other-adapter/")),
    ),
    Case(
        "peft: an adapter into which another one is copied",
        """
kept = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained("tiny-llama"), "my-adapter")
file = load_file("other-adapter/adapter_model.safetensors")
for key, parameter in kept.named_parameters():
    if "lora_" in key:
        parameter.data.copy_(file[key.replace(".default", "")])
""",
        (("tiny-llama", "tiny-llama/"), ("other-adapter", "other-adapter/")),
    ),
    Case(
        "safetensors: a blob that repositories share, by its own path",
        "kept = loaded(load_file(os.path.realpath('hub/models--org--shared-net/snapshots/0a1b/model.safetensors')))",
        (("org/shared-net", "blobs/9f/"),),
    ),
    Case(
        "built, saved by safetensors, never loaded",
        "kept = Net()\nsave_file(kept.state_dict(), 'saved_only_v1.safetensors')",
        ((None, None),),
    ),
    Case(
        "built, saved by torch, never loaded",
        "kept = Net()\ntorch.save(kept.state_dict(), 'saved_only_v1.pt')",
        ((None, None),),
    ),
    Case(
        "built while a file of its shapes was loaded",
        "kept = [Net(), loaded(load_file('beta_v1.safetensors'))]",
        ((None, None), ("beta_v1", "beta_v1.safetensors")),
    ),
)
