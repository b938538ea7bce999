"""Real loads onto an accelerator: the ways in which people fill its memory, and the name that each must get.

The files are those of `provenance_cases`; `D` is the device.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gpumodels_shared.schema import Model
from provenance_cases import Case

ATTACH: Final = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from accelerator import simulated_device
simulated_device.attach()
D = "npu:0"
"""

LOADS: Final = """
from concurrent.futures import ThreadPoolExecutor
from safetensors.torch import load_model
from transformers import AutoConfig

def opened(path, device=None):
    with safe_open(path, framework="pt", device=device or D) as file:
        return {key: file.get_tensor(key) for key in file.keys()}

def copied(state, net=None):
    net = Net().to(D) if net is None else net
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            parameter.copy_(state[key])
    return net

def streamed(path, net=None, unseen=False):
    net = Net().to(D) if net is None else net
    parameters = dict(net.named_parameters())
    with safe_open(path, framework="pt", device=D) as file, torch.no_grad():
        for key in file.keys():
            (parameters[key].data if unseen else parameters[key]).copy_(file.get_tensor(key))
    return net

class FusedBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(64, 192)

class FusedNet(nn.Module):
    def __init__(self, config=None):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(FusedBlock() for _ in range(6))

def fused(path, config=None):
    net = FusedNet(config).to(D)
    parameters = dict(net.named_parameters())
    with safe_open(path, framework="pt", device=D) as file:
        for key in file.keys():
            block, part, kind = key.rsplit(".", 2)
            parameters[f"{block}.qkv.{kind}"].data.narrow(0, 64 * "qkv".index(part), 64).copy_(file.get_tensor(key))
    return net

class FusedLlamaLayer(nn.Module):
    def __init__(self, size, inner):
        super().__init__()
        self.qkv_proj = nn.Linear(size, 3 * size, bias=False)
        self.o_proj = nn.Linear(size, size, bias=False)
        self.gate_up_proj = nn.Linear(size, 2 * inner, bias=False)
        self.down_proj = nn.Linear(inner, size, bias=False)

class FusedLlama(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(FusedLlamaLayer(config.hidden_size, config.intermediate_size)
                                    for _ in range(config.num_hidden_layers))
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

def served(folder, weights=None):
    config = AutoConfig.from_pretrained(folder)
    with torch.device(D):
        net = FusedLlama(config)
    size, inner = config.hidden_size, config.intermediate_size
    fused = {"q_proj": ("qkv_proj", 0, size), "k_proj": ("qkv_proj", size, size), "v_proj": ("qkv_proj", 2 * size, size),
             "gate_proj": ("gate_up_proj", 0, inner), "up_proj": ("gate_up_proj", inner, inner)}
    parameters = dict(net.named_parameters())
    for path in sorted(Path(weights or folder).glob("*.safetensors")):
        with safe_open(path, framework="pt", device=D) as file:
            for key in file.keys():
                name = key.removeprefix("model.").replace("self_attn.", "").replace("mlp.", "")
                part = name.split(".")[-2]
                if part in fused:
                    into, start, length = fused[part]
                    parameters[name.replace(part, into)].data.narrow(0, start, length).copy_(file.get_tensor(key))
                elif name in parameters:
                    parameters[name].data.copy_(file.get_tensor(key))
    return net
"""
"""How servers and scripts load; to be run after `provenance_cases.NET`."""


def _two(load: str) -> str:
    return f"kept = [{load} for path in ('gamma_v1.safetensors', 'delta_v1.safetensors')]"


_GAMMA: Final = (("gamma_v1", "gamma_v1.safetensors"),)
_BOTH: Final = (("gamma_v1", "gamma_v1.safetensors"), ("delta_v1", "delta_v1.safetensors"))
_BERT: Final = (("tiny-bert", "tiny-bert/"),)
_LLAMA: Final = (("tiny-llama", "tiny-llama/"),)
_SD: Final = tuple(("tiny-sd", f"tiny-sd/{slot}/") for slot in ("unet", "vae", "text_encoder"))
_PIPELINE: Final = "kept = StableDiffusionPipeline.from_pretrained('tiny-sd', **nothing, safety_checker=None)\n"

DEVICE_CASES: Final = (
    Case("load_file(device), into a module that was moved before", _two("loaded(load_file(path, device=D), Net().to(D))"), _BOTH),
    Case("load_file(device), into a module that is moved afterwards", _two("loaded(load_file(path, device=D)).to(D)"), _BOTH),
    Case("load_file(device), one", "kept = loaded(load_file('gamma_v1.safetensors', device=D), Net().to(D))", _GAMMA),
    Case(
        "load_file(device), assigned to a module on meta",
        _two("loaded(load_file(path, device=D), Net().to('meta'), assign=True)"),
        _BOTH,
    ),
    Case(
        "load_file(device), two files read before two modules are filled",
        "states = [load_file(f'{name}_v1.safetensors', device=D) for name in ('gamma', 'delta')]\n"
        "kept = [loaded(state, Net().to(D)) for state in states]\ndel states",
        _BOTH,
    ),
    Case(
        "load_file(device), in half",
        _two("loaded({key: value.half() for key, value in load_file(path, device=D).items()}, Net().half().to(D))"),
        _BOTH,
    ),
    Case(
        "load_file(device), renamed",
        "kept = loaded({k.removeprefix('model.diffusion_model.'): v for k, v in"
        " load_file('prefixed_v1.safetensors', device=D).items()}, Net().to(D))",
        (("prefixed_v1", "prefixed_v1.safetensors"),),
    ),
    Case(
        "load_file(device), by a pool of threads",
        """
with ThreadPoolExecutor(2) as pool:
    states = list(pool.map(lambda path: load_file(path, device=D), ("gamma_v1.safetensors", "delta_v1.safetensors")))
kept = [loaded(state, Net().to(D)) for state in states]
del states, pool
""",
        _BOTH,
    ),
    Case("load_file on the CPU, into a module on the device", _two("loaded(load_file(path), Net().to(D))"), _BOTH),
    Case("load_file on the CPU, then moved", _two("loaded(load_file(path)).to(D)"), _BOTH),
    Case(
        "load_file on the CPU, moved to both devices",
        "kept = loaded(load_file('gamma_v1.safetensors')).to(D)\nkept.blocks[3:].to('npu:1')",
        _GAMMA,
    ),
    Case("safe_open(device), get_tensor, load_state_dict", _two("loaded(opened(path), Net().to(D))"), _BOTH),
    Case("safe_open(device), get_tensor, assigned", _two("loaded(opened(path), Net().to('meta'), assign=True)"), _BOTH),
    Case(
        "safe_open(device), two files open at once",
        """
kept = [Net().to(D), Net().to(D)]
with safe_open("gamma_v1.safetensors", "pt", device=D) as one, safe_open("delta_v1.safetensors", "pt", device=D) as other:
    for net, file in zip(kept, (one, other)):
        net.load_state_dict({key: file.get_tensor(key) for key in file.keys()})
del one, other, file, net
""",
        _BOTH,
    ),
    Case(
        "load_model(device)",
        "kept = [Net().to(D), Net().to(D)]\nfor net, name in zip(kept, ('gamma', 'delta')):\n"
        "    load_model(net, f'{name}_v1.safetensors', device=D)\ndel net",
        _BOTH,
    ),
    Case("copied parameter by parameter from load_file(device)", _two("copied(load_file(path, device=D))"), _BOTH),
    Case(
        "copied parameter by parameter from load_file(device), one",
        "kept = copied(load_file('gamma_v1.safetensors', device=D))",
        _GAMMA,
    ),
    Case("copied parameter by parameter from safe_open(device)", _two("streamed(path)"), _BOTH),
    Case("copied parameter by parameter from safe_open(device), one", "kept = streamed('gamma_v1.safetensors')", _GAMMA),
    Case("copied into parameters' data from safe_open(device)", _two("streamed(path, unseen=True)"), _BOTH),
    Case("copied into fused parameters, with no config", "kept = fused('gamma_v1.safetensors')", _GAMMA),
    Case("copied into fused parameters, as servers do", "from pathlib import Path\nkept = served('tiny-llama')", _LLAMA),
    Case(
        "copied into fused parameters from shards",
        "from pathlib import Path\nkept = served('sharded-llama')",
        (("sharded-llama", "sharded-llama/"),),
    ),
    Case(
        "torch.load(map_location), load_state_dict",
        "kept = loaded(torch.load('plain_v1.pt', map_location=D), Net().to(D))",
        (("plain_v1", "plain_v1.pt"),),
    ),
    Case(
        "torch.load(map_location), assigned",
        "kept = loaded(torch.load('plain_v1.pt', map_location=D), assign=True)",
        (("plain_v1", "plain_v1.pt"),),
    ),
    Case(
        "torch.load(map_location), copied",
        "kept = copied(torch.load('plain_v1.pt', map_location=D))",
        (("plain_v1", "plain_v1.pt"),),
    ),
    Case(
        "torch.load(mmap), onto the device",
        "kept = loaded(torch.load('mapped_v1.pth', mmap=True, map_location='cpu'), Net().to(D))",
        (("mapped_v1", "mapped_v1.pth"),),
    ),
    Case("transformers: device_map", "kept = BertModel.from_pretrained('tiny-bert', device_map={'': D})", _BERT),
    Case(
        "transformers: device_map, cast",
        "kept = BertModel.from_pretrained('tiny-bert', device_map={'': D}, dtype=torch.bfloat16)",
        _BERT,
    ),
    Case(
        "transformers: device_map over two devices",
        "kept = LlamaForCausalLM.from_pretrained('sharded-llama', device_map={"
        "'model.embed_tokens': D, 'model.layers': 'npu:1', 'model.norm': 'npu:1', 'model.rotary_emb': 'npu:1', 'lm_head': D})",
        (("sharded-llama", "sharded-llama/"),),
    ),
    Case("transformers: moved", "kept = BertModel.from_pretrained('tiny-bert').to(D)", _BERT),
    Case(
        "transformers: .bin, device_map",
        "kept = BertModel.from_pretrained('bert-in-bin', device_map={'': D})",
        (("bert-in-bin", "bert-in-bin/"),),
    ),
    Case(
        "transformers: experts fused while loading, device_map",
        "kept = AutoModelForCausalLM.from_pretrained('tiny-qwen-moe', device_map={'': D})",
        (("tiny-qwen-moe", "tiny-qwen-moe/"),),
    ),
    Case(
        "transformers: partly in host memory",
        "kept = BertModel.from_pretrained('tiny-bert', device_map={'embeddings': D, 'encoder': 'cpu', 'pooler': 'cpu'})",
        _BERT,
    ),
    Case("diffusers: moved", _PIPELINE + "kept.to(D)", _SD),
    Case(
        "diffusers: device_map",
        "kept = UNet2DConditionModel.from_pretrained('tiny-sd', subfolder='unet', device_map={'': D})",
        (("tiny-sd", "tiny-sd/unet/"),),
    ),
    Case("diffusers: model CPU offload", _PIPELINE + "kept.enable_model_cpu_offload(device=D)", _SD),
    Case(
        "diffusers: model CPU offload, one of them in use",
        _PIPELINE + "kept.enable_model_cpu_offload(device=D)\nkept.text_encoder(torch.ones(1, 8, dtype=torch.long))",
        _SD,
    ),
    Case("diffusers: sequential CPU offload", _PIPELINE + "kept.enable_sequential_cpu_offload(device=D)", _SD),
    Case(
        "diffusers: sequential CPU offload, after a step",
        _PIPELINE + "kept.enable_sequential_cpu_offload(device=D)\n"
        "with torch.no_grad():\n    kept.unet(torch.ones(1, 4, 8, 8), 1, torch.ones(1, 4, 32))",
        _SD,
    ),
    Case(
        "diffusers: group offload of blocks",
        """
kept = UNet2DConditionModel.from_pretrained("tiny-sd", subfolder="unet")
kept.enable_group_offload(torch.device(D), torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1)
""",
        (("tiny-sd", "tiny-sd/unet/"),),
    ),
    Case(
        "diffusers: group offload of leaves",
        """
kept = UNet2DConditionModel.from_pretrained("tiny-sd", subfolder="unet")
kept.enable_group_offload(torch.device(D), torch.device("cpu"), offload_type="leaf_level")
""",
        (("tiny-sd", "tiny-sd/unet/"),),
    ),
    Case(
        "diffusers: single file, moved",
        "kept = LTXVideoTransformer3DModel.from_single_file('ltx-mytune_v2.safetensors', config='ltx-config').to(D)",
        (("ltx-mytune_v2", "ltx-mytune_v2.safetensors"),),
    ),
    Case(
        "accelerate: load_checkpoint_and_dispatch",
        """
with accelerate.init_empty_weights():
    kept = Net()
kept = accelerate.load_checkpoint_and_dispatch(kept, "beta_v1.safetensors", device_map={"": D})
""",
        (("beta_v1", "beta_v1.safetensors"),),
    ),
    Case(
        "accelerate: tensors set one by one from safe_open",
        """
with accelerate.init_empty_weights():
    kept = Net()
with safe_open("gamma_v1.safetensors", "pt", device=D) as file:
    for key in file.keys():
        accelerate.utils.set_module_tensor_to_device(kept, key, D, value=file.get_tensor(key))
del file
""",
        _GAMMA,
    ),
    Case("accelerate: CPU offload", "kept = accelerate.cpu_offload(BertModel.from_pretrained('tiny-bert'), D)", _BERT),
    Case(
        "accelerate: dispatched over two devices",
        "kept = accelerate.dispatch_model(BertModel.from_pretrained('tiny-bert'),"
        " {'embeddings': D, 'encoder': 'npu:1', 'pooler': 'npu:1'})",
        _BERT,
    ),
    Case(
        "peft: an adapter on its base, on the device",
        "kept = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained('tiny-llama', device_map={'': D}), 'my-adapter',"
        " torch_device=D)",
        (*_LLAMA, ("my-adapter", "my-adapter/")),
    ),
    Case(
        "peft: an adapter on its base, moved",
        "kept = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained('tiny-llama'), 'my-adapter').to(D)",
        (*_LLAMA, ("my-adapter", "my-adapter/")),
    ),
    Case(
        "torchao: int8 weights, quantized on the device",
        """
from torchao.quantization import Int8WeightOnlyConfig, quantize_
kept = BertModel.from_pretrained("tiny-bert", device_map={"": D})
quantize_(kept, Int8WeightOnlyConfig())
""",
        _BERT,
    ),
    Case(
        "torchao: int8 weights, then moved",
        """
from torchao.quantization import Int8WeightOnlyConfig, quantize_
kept = BertModel.from_pretrained("tiny-bert")
quantize_(kept, Int8WeightOnlyConfig())
kept.to(D)
""",
        _BERT,
    ),
    # None of these has a name.
    Case(
        "never loaded, beside one that was",
        "kept = [Net().to(D), loaded(load_file('beta_v1.safetensors', device=D), Net().to(D))]",
        ((None, None), ("beta_v1", "beta_v1.safetensors")),
    ),
    Case(
        "never loaded, made after one that was, and is gone",
        "kept = loaded(load_file('beta_v1.safetensors', device=D), Net().to(D))\nkept = Net().to(D)",
        ((None, None),),
    ),
    Case(
        "never loaded, made after one that was copied",
        "kept = [streamed('beta_v1.safetensors')]\nkept.append(Net().to(D))",
        (("beta_v1", "beta_v1.safetensors"), (None, None)),
    ),
    Case("never loaded, made on the device", "with torch.device(D):\n    kept = Net()", ((None, None),)),
    Case(
        "a config, and no weights", "kept = AutoModel.from_config(AutoConfig.from_pretrained('tiny-bert')).to(D)", ((None, None),)
    ),
    Case(
        "a config, and no weights, set to evaluation",
        "kept = AutoModel.from_config(AutoConfig.from_pretrained('bert-in-bin')).eval().to(D)",
        ((None, None),),
    ),
    Case(
        "diffusers: a config, and no weights",
        "kept = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config('tiny-sd/unet')).eval().to(D)",
        ((None, None),),
    ),
    Case(
        "diffusers: a pipeline with a component of one's own",
        "kept = StableDiffusionPipeline.from_pretrained('tiny-sd', **nothing, safety_checker=None,"
        " unet=UNet2DConditionModel.from_config(UNet2DConditionModel.load_config('tiny-sd/unet')).eval())\nkept.to(D)",
        ((None, None), *(one for one in _SD if one[1] != "tiny-sd/unet/")),
    ),
    Case(
        "transformers: other values over a checkpoint's",
        """
kept = BertModel.from_pretrained("tiny-bert", device_map={"": D})
kept.load_state_dict({key: torch.randn_like(value) for key, value in kept.state_dict().items() if value.is_floating_point()},
                     strict=False)
""",
        ((None, None),),
    ),
    Case(
        "transformers: another checkpoint's values, copied in place",
        """
kept = BertModel.from_pretrained("tiny-bert", device_map={"": D})
with torch.no_grad():
    state = torch.load("bert-in-bin/pytorch_model.bin", map_location=D)
    for key, parameter in kept.named_parameters():
        parameter.copy_(state[key])
del state, parameter
""",
        (("bert-in-bin", "bert-in-bin/"),),
    ),
    Case(
        "accelerate: the weights of a fine-tune dispatched into a model of a config",
        """
with accelerate.init_empty_weights():
    kept = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained("tiny-llama")).eval()
kept = accelerate.load_checkpoint_and_dispatch(kept, "sharded-llama", device_map={"": D})
""",
        (("sharded-llama", "sharded-llama/"),),
    ),
    Case(
        "values from nowhere over a file's",
        "kept = loaded({k: torch.randn_like(v) for k, v in Net().to(D).state_dict().items()},"
        " loaded(load_file('alpha_v1.safetensors', device=D), Net().to(D)))",
        ((None, None),),
    ),
    Case(
        "another file over the first",
        "kept = loaded(load_file('beta_v1.safetensors', device=D),"
        " loaded(load_file('alpha_v1.safetensors', device=D), Net().to(D)))",
        (("beta_v1", "beta_v1.safetensors"),),
    ),
    Case(
        "another file's values copied over the first's",
        "kept = streamed('beta_v1.safetensors', loaded(load_file('alpha_v1.safetensors', device=D), Net().to(D)))",
        (("beta_v1", "beta_v1.safetensors"),),
    ),
    Case(
        "the weights of a fine-tune in the place of those that the config names",
        "from pathlib import Path\nkept = served('tiny-llama', 'sharded-llama')",
        (("sharded-llama", "sharded-llama/"),),
    ),
)


def outcome(model: Model, name: str | None, file: str | None) -> str:
    """What became of one model."""
    claimed = model.name if model.confidence >= 0.6 else None
    if claimed is None:
        return "right" if name is None else "uncertain"
    if claimed != name:
        return "wrong"
    is_config = model.name_source in ("config", "pipeline")
    return "right" if is_config or (file is not None and any(file in path for path in model.files)) else "wrong"


def best_assignment(models: tuple[Model, ...], case: Case) -> list[tuple[str, Model]]:
    """Models and what is expected have no order: right ones are paired first."""
    found: list[tuple[str, Model]] = []
    left = list(models)
    for name, file in sorted(case.expected, key=lambda one: one[0] is None):
        ranked = sorted(left, key=lambda model: ["right", "uncertain", "wrong"].index(outcome(model, name, file)))
        left.remove(ranked[0])
        found.append((outcome(ranked[0], name, file), ranked[0]))
    return found
