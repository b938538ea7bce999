"""A quantized model has as many parameters as before: stand-ins of the shapes in which libraries keep packed weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from modules import attached, distinct_bytes, the_only

OUT, IN = 256, 128
WEIGHT = OUT * IN


@dataclass
class QuantState:
    """What bitsandbytes keeps of a 4-bit weight."""

    shape: torch.Size
    absmax: torch.Tensor


def a_quant_state(*shape: int) -> QuantState:
    return QuantState(torch.Size(shape), torch.zeros(torch.Size(shape).numel() // 64))


def packed(*shape: int, dtype: torch.dtype = torch.uint8) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape, dtype=dtype), requires_grad=False)


def a_layer(parameters: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor] | None = None, **attributes: Any) -> nn.Module:
    """A module with these tensors and plain attributes."""
    module = nn.Module()
    for name, tensor in parameters.items():
        module.register_parameter(name, tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor))
    for name, tensor in (buffers or {}).items():
        module.register_buffer(name, tensor)
    vars(module).update(attributes)
    return module


def bitsandbytes_says_it_on_the_tensor() -> nn.Module:
    weight: Any = packed(WEIGHT // 2, 1)
    weight.quant_state = a_quant_state(OUT, IN)
    return a_layer({"weight": weight, "bias": torch.zeros(OUT)})


def bitsandbytes_says_it_on_the_layer() -> nn.Module:
    """Sharded weights lose their attributes; their bytes may be stored as any dtype."""
    weight = packed(WEIGHT // 4, 1, dtype=torch.bfloat16)
    return a_layer({"weight": weight, "bias": torch.zeros(OUT)}, quant_state=a_quant_state(OUT, IN))


def bitsandbytes_says_it_in_a_parametrization() -> nn.Module:
    parametrized = a_layer({"original": packed(WEIGHT // 2, 1)})
    parametrized.add_module("0", a_layer({}, quant_state=a_quant_state(OUT, IN)))
    layer = a_layer({"bias": torch.zeros(OUT)})
    layer.add_module("parametrizations", nn.ModuleDict({"weight": parametrized}))
    return layer


def hqq(view: torch.dtype = torch.uint8) -> nn.Module:
    meta = {
        "nbits": 4,
        "shape": torch.Size((OUT, IN)),
        "scale": torch.zeros(WEIGHT // 64, 1),
        "zero": torch.zeros(WEIGHT // 64, 1),
    }
    weight = nn.Parameter(torch.zeros(WEIGHT // 128, 64, dtype=torch.uint8).view(view), requires_grad=False)
    return a_layer({"W_q": weight}, meta=meta, bias=torch.zeros(OUT))


def gguf(attribute: str) -> nn.Module:
    weight = packed(OUT, IN // 32 * 18)
    vars(weight)[attribute] = (OUT, IN)
    return a_layer({"weight": weight, "bias": torch.zeros(OUT)})


def gguf_in_a_layer_made_for_the_blocks() -> nn.Module:
    """Of WanVideoWrapper: the layer got its sizes from the packed tensor, and counts steps for schedules."""
    layer = gguf("quant_shape")
    layer.register_buffer("_step", torch.zeros((), dtype=torch.int64))
    vars(layer).update(in_features=IN // 32 * 18, out_features=OUT)
    return layer


def gptq() -> nn.Module:
    """All in buffers: torch counts no parameters."""
    buffers = {
        "qweight": torch.zeros(IN // 8, OUT, dtype=torch.int32),
        "qzeros": torch.zeros(IN // 64, OUT // 8, dtype=torch.int32),
        "scales": torch.zeros(IN // 64, OUT, dtype=torch.float16),
        "g_idx": torch.zeros(IN, dtype=torch.int32),
        "bias": torch.zeros(OUT, dtype=torch.float16),
    }
    return a_layer({}, buffers, in_features=IN, out_features=OUT)


def compressed_tensors() -> nn.Module:
    parameters = {
        "weight_packed": packed(OUT, IN // 8, dtype=torch.int32),
        "weight_scale": torch.zeros(OUT, IN // 64),
        "weight_shape": packed(2, dtype=torch.int64),
        "bias": torch.zeros(OUT),
    }
    return a_layer(parameters, in_features=IN, out_features=OUT)


def float8() -> nn.Module:
    parameters = {
        "weight": packed(OUT, IN, dtype=torch.float8_e4m3fn),
        "weight_scale_inv": torch.zeros(2, 1),
        "bias": torch.zeros(OUT),
    }
    return a_layer(parameters, in_features=IN, out_features=OUT)


def vllm() -> nn.Module:
    sizes: dict[str, Any] = {"input_size": 4 * IN, "output_size": OUT}
    sizes |= {"input_size_per_partition": IN, "output_size_per_partition": OUT}
    parameters = {"qweight": packed(IN // 8, OUT, dtype=torch.int32), "scales": torch.zeros(2, OUT), "bias": torch.zeros(OUT)}
    return a_layer(parameters, **sizes)


def aqlm() -> nn.Module:
    """Two bits a weight; the codebook of a small layer is larger than its codes."""
    parameters = {
        "codebooks": torch.zeros(1, 65536, 1, 8),
        "codes": packed(OUT, IN // 8, 1, dtype=torch.int16),
        "scales": torch.zeros(OUT, 1, 1, 1),
        "bias": torch.zeros(OUT),
    }
    return a_layer(parameters, in_features=IN, out_features=OUT)


def nvfp4() -> nn.Module:
    """Of transformers 5: all in buffers, the scales twice."""
    buffers = {
        "weight": torch.zeros(OUT, IN // 2, dtype=torch.uint8),
        "weight_sf": torch.zeros(OUT, IN, dtype=torch.int32),
        "weight_sf_rowmajor": torch.zeros(OUT, IN // 16, dtype=torch.uint8),
        "weight_global_scale": torch.zeros(1),
        "bias": torch.zeros(OUT),
    }
    return a_layer({}, buffers, in_features=IN, out_features=OUT)


def an_embedding() -> nn.Module:
    return a_layer({"weight": packed(OUT, IN // 2), "bias": torch.zeros(OUT)}, num_embeddings=OUT, embedding_dim=IN)


def experts(columns: Callable[[int], int]) -> nn.Module:
    """Two experts of hidden size 64 and inner size 128; with their other parameter as many elements as the other cases."""
    parameters = {
        "gate_up_proj": packed(2, 256, columns(64)),
        "gate_up_proj_scale_inv": torch.zeros(2, 256, 2),
        "down_proj": packed(2, 64, columns(128)),
        "down_proj_scales": torch.zeros(2, 64, 4),
    }
    return a_layer(parameters, num_experts=2, hidden_size=64, intermediate_size=128)


def autogptq() -> nn.Module:
    """AutoGPTQ 0.7 calls its sizes so."""
    return a_layer(
        {}, {"qweight": torch.zeros(IN // 8, OUT, dtype=torch.int32), "bias": torch.zeros(OUT)}, infeatures=IN, outfeatures=OUT
    )


def awq_that_keeps_no_sizes() -> nn.Module:
    buffers = {"qweight": torch.zeros(IN, OUT // 8, dtype=torch.int32), "scales": torch.zeros(IN // 64, OUT, dtype=torch.float16)}
    return a_layer({"bias": torch.zeros(OUT)}, buffers)


def nvfp4_that_keeps_no_sizes() -> nn.Module:
    scale = torch.zeros(OUT, IN // 16).to(torch.float8_e4m3fn)
    return a_layer({"weight": packed(OUT, IN // 2), "bias": torch.zeros(OUT)}, {"weight_scale": scale})


def mxfp4_that_keeps_no_sizes() -> nn.Module:
    buffers = {"w_blocks": torch.zeros(OUT, IN // 32, 16, dtype=torch.uint8), "w_scales": torch.zeros(OUT, IN // 32).byte()}
    return a_layer({"bias": torch.zeros(OUT)}, buffers)


STAND_INS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "bitsandbytes, the tensor": (bitsandbytes_says_it_on_the_tensor, WEIGHT + OUT),
    "bitsandbytes, the layer": (bitsandbytes_says_it_on_the_layer, WEIGHT + OUT),
    "bitsandbytes, a parametrization": (bitsandbytes_says_it_in_a_parametrization, WEIGHT + OUT),
    "HQQ": (hqq, WEIGHT + OUT),
    "HQQ, viewed as floats": (lambda: hqq(torch.float16), WEIGHT + OUT),
    "GGUF, diffusers": (lambda: gguf("quant_shape"), WEIGHT + OUT),
    "GGUF, ComfyUI": (lambda: gguf("tensor_shape"), WEIGHT + OUT),
    "GGUF, WanVideoWrapper": (gguf_in_a_layer_made_for_the_blocks, WEIGHT + OUT),
    "GPTQ": (gptq, WEIGHT + OUT),
    "compressed-tensors": (compressed_tensors, WEIGHT + OUT),
    "float8": (float8, WEIGHT + OUT),
    "vLLM": (vllm, WEIGHT + OUT),
    "AQLM": (aqlm, WEIGHT + OUT),
    "NVFP4": (nvfp4, WEIGHT + OUT),
    "AutoGPTQ": (autogptq, WEIGHT + OUT),
    "AWQ that keeps no sizes": (awq_that_keeps_no_sizes, WEIGHT + OUT),
    "NVFP4 that keeps no sizes": (nvfp4_that_keeps_no_sizes, WEIGHT + OUT),
    "MXFP4 that keeps no sizes": (mxfp4_that_keeps_no_sizes, WEIGHT + OUT),
    "an embedding": (an_embedding, WEIGHT + OUT),
    "experts of four bits": (lambda: experts(lambda columns: columns // 2), 2 * 256 * 64 + 2 * 64 * 128),
    "experts of GGUF": (lambda: experts(lambda columns: columns // 32 * 34), 2 * 256 * 64 + 2 * 64 * 128),
}
"""By library, a layer, and how many parameters it was made from."""


@pytest.mark.parametrize("name", STAND_INS)
def test_packed_weights_count_as_many_parameters_as_they_were(name: str) -> None:
    make, elements = STAND_INS[name]
    with attached() as sidecar:
        model = nn.Sequential(make(), nn.Linear(64, 1000))
        found = the_only(sidecar)
        assert found.parameters == elements + 65_000
        assert sum(found.tree.parameters) == found.parameters
        assert model is not None


def a_pruned_linear() -> nn.Module:
    layer = nn.Linear(IN, OUT)
    layer.register_buffer("mask", torch.zeros(OUT, IN, dtype=torch.uint8))
    layer.register_buffer("order", torch.zeros(OUT, IN, dtype=torch.int64))
    return layer


def an_embedding_with_positions() -> nn.Module:
    layer = nn.Embedding(OUT, IN)
    layer.register_buffer("position_ids", torch.arange(512)[None])
    return layer


def a_module_with_other_metadata() -> nn.Module:
    layer = nn.Linear(IN, OUT)
    vars(layer).update(meta={"shape": (3, 224, 224)}, quant_state=None, storage=None)
    return layer


def a_step_counter() -> nn.Module:
    return a_layer(
        {"scale": torch.zeros(OUT, IN)}, {"step": torch.zeros((), dtype=torch.int64)}, in_features=IN, out_features=OUT
    )


def unknown_codes() -> nn.Module:
    return a_layer({"codes": packed(OUT, IN)}, in_features=4, out_features=4)


def a_nested_buffer() -> nn.Module:
    """It has no size."""
    layer = nn.Linear(IN, OUT)
    layer.register_buffer("codes", torch.zeros(8, dtype=torch.uint8))
    layer.register_buffer("rows", torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]))
    return layer


def a_sharded_layer() -> nn.Module:
    parameters = {"weight": torch.zeros(OUT // 2, IN, dtype=torch.bfloat16)}
    return a_layer(parameters, {"calls": torch.zeros(1, dtype=torch.int32)}, in_features=IN, out_features=OUT)


@pytest.mark.parametrize(
    "make",
    [
        a_pruned_linear,
        an_embedding_with_positions,
        a_module_with_other_metadata,
        a_step_counter,
        unknown_codes,
        a_nested_buffer,
        a_sharded_layer,
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_says_nothing_of_packing_is_counted_as_torch_counts_it(make: Callable[[], nn.Module]) -> None:
    with attached() as sidecar:
        model = make()
        found = the_only(sidecar)
        assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
        assert (found.unread, sidecar.failures.count) == (0, 0)


def test_a_packed_weight_that_two_layers_share_counts_once() -> None:
    with attached() as sidecar:
        layer, other = gptq(), gptq()
        other.qweight = layer.qweight
        model = nn.ModuleList([layer, other])
        assert the_only(sidecar).parameters == WEIGHT + 2 * OUT
        assert len(model) == 2


def test_a_layer_that_is_quantized_in_place_keeps_its_number_of_parameters() -> None:
    with attached() as sidecar:
        model = nn.Sequential(nn.Linear(IN, OUT))
        assert the_only(sidecar).parameters == WEIGHT + OUT
        weight: Any = packed(WEIGHT // 2, 1)
        weight.quant_state = a_quant_state(OUT, IN)
        model[0].weight = weight
        found = the_only(sidecar)
        assert found.parameters == WEIGHT + OUT
        assert found.bytes_by_device == {"cpu": WEIGHT // 2 + 4 * OUT + 4 * WEIGHT // 64}


@pytest.mark.filterwarnings("ignore")
def test_torchs_own_quantized_layers_count_what_they_unpack_to() -> None:
    with attached() as sidecar:
        quantize: Any = torch.ao.quantization.quantize_dynamic
        model = quantize(nn.Sequential(nn.Linear(IN, OUT), nn.ReLU(), nn.Linear(OUT, 100)))
        assert max(found.parameters for found in sidecar.scan()) == WEIGHT + OUT + 100 * OUT + 100
        assert model is not None


@dataclass
class Storage:
    """Where a kernel's tensor has its values."""

    data: torch.Tensor
    layout: Any = None


@dataclass
class KernelTensor:
    """A tensor of Triton's kernels, which is none of torch's."""

    storage: Any
    dtype: Any
    shape: list[int]


@dataclass
class PrecisionConfig:
    """What the kernels need besides the weight."""

    weight_scale: KernelTensor


@pytest.mark.parametrize("keeps", [Storage, lambda data: data])
def test_tensors_of_kernels_count_their_bytes_and_their_stated_elements(keeps: Callable[[torch.Tensor], Any]) -> None:
    with attached() as sidecar:
        weight, scale = torch.zeros(2, 32, 256, dtype=torch.uint8), torch.zeros(2, 2, 256, dtype=torch.uint8)
        experts = a_layer(
            {"gate_up_proj_bias": torch.zeros(2, 256)},
            gate_up_proj=KernelTensor(keeps(weight), "float4", [2, 64, 256]),
            precision_config=PrecisionConfig(KernelTensor(keeps(scale), "uint8", [2, 2, 256])),
        )
        model = nn.Sequential(experts, nn.Linear(64, 1000))
        found = the_only(sidecar)
        assert found.bytes_by_device == {"cpu": distinct_bytes(model) + weight.numel() + scale.numel()}
        assert found.parameters == 2 * 64 * 256 + 2 * 256 + 65_000
