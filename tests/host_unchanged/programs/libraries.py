"""Hosts that use the libraries which load and hold models: transformers, diffusers, peft, accelerate, torchao."""

from __future__ import annotations

import copy
import importlib
import pickle
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from host_unchanged.observing import bits, file_bits, function_facts, outcome, pickle_bits, plain, scanned
from host_unchanged.table import need, program

FUNCTIONS: Final = {
    "transformers": ["PreTrainedModel.from_pretrained", "PreTrainedModel.save_pretrained", "DynamicCache.__init__", "pipeline"],
    "transformers.modeling_utils": ["load_state_dict"],
    "diffusers": ["ModelMixin.from_pretrained", "DiffusionPipeline.__init__", "DiffusionPipeline.register_modules"],
    "diffusers.hooks.group_offloading": ["ModuleGroup._offload_to_disk", "ModuleGroup._onload_from_disk"],
    "gguf.gguf_reader": ["GGUFReader.__init__"],
    "accelerate": ["dispatch_model", "cpu_offload"],
    "accelerate.utils": ["load_checkpoint_in_model", "set_module_tensor_to_device"],
    "accelerate.utils.offload": ["offload_weight"],
    "accelerate.hooks": ["add_hook_to_module"],
    "peft": ["get_peft_model", "PeftModel.from_pretrained", "PeftModel.merge_and_unload"],
    "peft.utils.hotswap": ["hotswap_adapter", "hotswap_adapter_from_state_dict"],
    "bitsandbytes.nn": ["Params4bit.__new__", "Linear4bit.__init__"],
}
"""Functions that a sidecar might be tempted to replace."""


def _llama(**more: Any) -> Any:
    transformers = need("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=8,
        **more,
    )
    torch.manual_seed(3)
    return transformers.LlamaForCausalLM(config).eval()


def _loaded_llama() -> Any:
    model = _llama()
    model.save_pretrained("llama")
    loaded = type(model).from_pretrained("llama")
    scanned()
    return loaded


def _answer(model: Any) -> Any:
    with torch.no_grad():
        return bits(model(torch.arange(4)[None]).logits)


@program
def library_functions_say_the_same_of_themselves() -> Any:
    facts: dict[str, Any] = {}
    for module_name, names in FUNCTIONS.items():
        if importlib.util.find_spec(module_name.partition(".")[0]) is None:
            continue
        for name in names:
            thing: Any = importlib.import_module(module_name)
            for part in name.split("."):
                thing = getattr(thing, part, None)
            facts[f"{module_name}.{name}"] = function_facts(thing)
    return facts


@program
def llama_with_dynamic_rope() -> Any:
    model = _llama(rope_scaling={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0})
    short, long = torch.arange(4)[None], torch.arange(16)[None]
    with torch.no_grad():
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        compiled: Any = torch.compile(model, backend="eager")
        results = [bits(compiled(each, use_cache=False).logits) for each in (short, long)]
        found = {kind: dict(torch._dynamo.utils.counters[kind]) for kind in ("stats", "frames")}
        breaks = {plain(reason): count for reason, count in torch._dynamo.utils.counters["graph_break"].items()}
    return [results, found, breaks]


@program
def transformers_saves_and_loads() -> Any:
    loaded = _loaded_llama()
    loaded.save_pretrained("again")
    half = type(loaded).from_pretrained("llama", dtype=torch.float16)
    half.save_pretrained("half", max_shard_size="10KB")
    return [file_bits("llama", "again", "half"), _answer(loaded), sorted(vars(loaded)), sorted(vars(loaded.model.layers[0]))]


@program
def transformers_generates() -> Any:
    loaded = _loaded_llama()
    torch.manual_seed(1)
    tokens = loaded.generate(torch.arange(3)[None], max_new_tokens=4, do_sample=True, pad_token_id=0)
    scanned()
    cached = loaded(torch.arange(4)[None], use_cache=True).past_key_values
    return [bits(tokens), type(cached).__name__, sorted(vars(cached)), cached.get_seq_length()]


@program
def transformers_errors() -> Any:
    model = _llama()
    model.save_pretrained("llama")
    whole = Path("llama/model.safetensors").read_bytes()
    Path("llama/model.safetensors").write_bytes(whole[:1000])
    return [outcome(type(model).from_pretrained, "nowhere/at-all"), outcome(type(model).from_pretrained, "llama")]


@program
def transformers_copied_and_pickled() -> Any:
    loaded = _loaded_llama()
    copied = copy.deepcopy(loaded)
    return [_answer(copied), pickle_bits(pickle.dumps(loaded)), _answer(pickle.loads(pickle.dumps(copied)))]


def _unet() -> Any:
    diffusers = need("diffusers")
    torch.manual_seed(4)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(4, 8),
        norm_num_groups=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )


@program
def diffusers_offloads_groups_to_disk() -> Any:
    _unet().save_pretrained("unet")
    unet, device = need("diffusers").UNet2DModel.from_pretrained("unet").eval(), torch.device("cpu")
    unet.enable_group_offload(device, device, offload_type="leaf_level", offload_to_disk_path="groups")
    scanned()
    with torch.no_grad():
        answers = [bits(unet(torch.ones(1, 3, 8, 8), 1).sample) for _ in range(2)]
    scanned()
    return [answers, file_bits("groups"), [[name, list(each.shape)] for name, each in unet.named_parameters()]]


@program
def diffusers_saves_and_loads() -> Any:
    diffusers = need("diffusers")
    pipeline = diffusers.DDPMPipeline(_unet(), diffusers.DDPMScheduler(num_train_timesteps=4))
    pipeline.save_pretrained("pipeline")
    loaded = diffusers.DDPMPipeline.from_pretrained("pipeline")
    scanned()
    loaded.set_progress_bar_config(disable=True)
    images = loaded(num_inference_steps=2, generator=torch.Generator().manual_seed(2), output_type="np").images
    scanned()
    loaded.save_pretrained("again")
    return [file_bits("pipeline", "again"), bits(torch.from_numpy(images)), sorted(vars(loaded)), sorted(loaded.components)]


@program
def peft_swaps_an_adapters_weights() -> Any:
    peft = need("peft")
    from peft.utils import hotswap

    torch.manual_seed(8)
    for name, targets in (("first", ["q_proj"]), ("second", ["q_proj"]), ("other", ["q_proj", "v_proj"])):
        config = peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False)
        peft.get_peft_model(_loaded_llama(), config).save_pretrained(name)
    model = peft.PeftModel.from_pretrained(_loaded_llama(), "first")
    scanned()
    results = [_answer(model)]
    hotswap.hotswap_adapter(model, "second", adapter_name="default")
    scanned()
    results.append(_answer(model))
    refused = outcome(hotswap.hotswap_adapter, model, "other", adapter_name="default")
    scanned()
    return [results, refused, _answer(model), bits(model.state_dict())]


@program
def peft_adds_merges_and_unloads() -> Any:
    peft = need("peft")
    torch.manual_seed(6)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = peft.get_peft_model(_loaded_llama(), config)
    scanned()
    results = [_answer(model)]
    model.save_pretrained("adapter")
    model.add_adapter("second", peft.LoraConfig(r=2, target_modules=["q_proj"]))
    model.set_adapter("second")
    scanned()
    results.append(_answer(model))
    again = peft.PeftModel.from_pretrained(_loaded_llama(), "adapter")
    scanned()
    results.append(_answer(again))
    again.merge_adapter()
    results.append(_answer(again))
    again.unmerge_adapter()
    scanned()
    results.append(_answer(again.merge_and_unload()))
    model.delete_adapter("default")
    results.append(_answer(model.unload()))
    return [results, file_bits("adapter/adapter_model.safetensors"), pickle_bits(pickle.dumps(model.state_dict()))]


@program
def accelerate_offloads() -> Any:
    accelerate = need("accelerate")
    results = []
    for offload in ("cpu", "disk"):
        model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8).eval())
        before = pickle_bits(pickle.dumps(model.state_dict()))
        device = torch.device("cpu")
        if offload == "cpu":
            accelerate.cpu_offload(model, execution_device=device)
        else:
            accelerate.disk_offload(model, "offloaded", execution_device=device)
        scanned()
        answered = bits(model(torch.ones(2, 8)))
        scanned()
        shown = [[name, str(each.device)] for name, each in model.named_parameters()]
        accelerate.hooks.remove_hook_from_module(model, recurse=True)
        results.append([before, answered, shown, [sorted(vars(each)) for each in model.modules()]])
    return [results, file_bits("offloaded")]


@program
def accelerate_loads_and_dispatches() -> Any:
    accelerate = need("accelerate")
    model = _llama()
    model.save_pretrained("llama")
    with accelerate.init_empty_weights():
        empty = _llama()
    scanned()
    loaded = accelerate.load_checkpoint_and_dispatch(empty, "llama", device_map={"": "cpu"})
    scanned()
    accelerator = accelerate.Accelerator(cpu=True)
    prepared = accelerator.prepare(nn.Linear(4, 4))
    scanned()
    return [_answer(loaded), bits(accelerator.unwrap_model(prepared).weight.shape), sorted(vars(loaded))]


@program
def torchao_quantizes() -> Any:
    quantization = need("torchao.quantization")
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    torch.save(model.state_dict(), "source.pt")
    model.load_state_dict(torch.load("source.pt"))
    scanned()
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    scanned()
    return [bits(model(torch.ones(2, 64))), [type(each).__name__ for each in model.parameters()], plain(str(model))]


@program
def lightning_trains() -> Any:
    need("lightning")
    fabric = need("lightning.fabric").Fabric(accelerator="cpu", devices=1)
    model = nn.Linear(8, 8)
    wrapped, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    scanned()
    fabric.backward(wrapped(torch.ones(2, 8)).sum())
    optimizer.step()
    return [bits(model), sorted(vars(wrapped))]


@program
def bitsandbytes_quantizes() -> Any:
    bnb = need("bitsandbytes")
    layer = bnb.nn.Linear4bit(64, 64, compute_dtype=torch.float32, quant_type="nf4")
    layer.load_state_dict(nn.Linear(64, 64).state_dict())
    layer.to("cpu")
    scanned()
    return [bits(layer.weight.data), bits(layer(torch.ones(2, 64))), sorted(layer.state_dict())]
