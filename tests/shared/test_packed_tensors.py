"""Tests of how the tensors themselves say how they are packed, with the names and shapes that each library gives them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gpumodels_shared.packed_tensors import MAX_GROUPS, Shape, TensorPrecision

Tensors = Mapping[str, tuple[str, Shape]]


def label_of(tensors: Tensors) -> str | None:
    found = TensorPrecision()
    for key, (dtype, shape) in tensors.items():
        found.add(key, dtype, shape)
    return found.label()


CASES: dict[str, tuple[Tensors, str | None]] = {
    "fp8 of ComfyUI": (
        {
            "b.0.q.weight": ("float8_e4m3fn", (64, 64)),
            "b.0.q.scale_weight": ("float32", ()),
            "scaled_fp8": ("float8_e4m3fn", (0,)),
        },
        "fp8 scaled",
    ),
    "fp8 of DeepSeek": (
        {"q.weight": ("float8_e4m3fn", (256, 256)), "q.weight_scale_inv": ("float32", (2, 2)), "n.weight": ("bfloat16", (256,))},
        "fp8 scaled",
    ),
    "fp8 of ModelOpt": (
        {"q.weight": ("float8_e4m3fn", (64, 64)), "q.weight_scale": ("float32", ()), "q.input_scale": ("float32", ())},
        "fp8 scaled",
    ),
    "fp8 of fused experts": (
        {"m.experts.gate_up_proj": ("float8_e4m3fn", (4, 64, 64)), "m.experts.gate_up_proj_scale_inv": ("float32", (4, 1, 1))},
        "fp8 scaled",
    ),
    "fp8 without scales, which the dtype says": ({"q.weight": ("float8_e4m3fn", (64, 64)), "q.bias": ("bfloat16", (64,))}, None),
    "mxfp8": ({"q.weight": ("float8_e4m3fn", (64, 64)), "q.weight_scale": ("uint8", (64, 2))}, "mxfp8"),
    "nvfp4 of ModelOpt and ComfyUI": (
        {
            "q.weight": ("uint8", (64, 32)),
            "q.weight_scale": ("float8_e4m3fn", (64, 4)),
            "q.weight_scale_2": ("float32", ()),
            "q.input_scale": ("float32", ()),
        },
        "nvfp4",
    ),
    "nvfp4 of compressed-tensors": (
        {
            "q.weight_packed": ("uint8", (64, 32)),
            "q.weight_scale": ("float8_e4m3fn", (64, 4)),
            "q.weight_global_scale": ("float32", (1,)),
        },
        "nvfp4",
    ),
    "mxfp4 of gpt-oss": (
        {"m.experts.gate_up_proj_blocks": ("uint8", (4, 64, 2, 16)), "m.experts.gate_up_proj_scales": ("uint8", (4, 64, 2))},
        "mxfp4",
    ),
    "mxfp4": ({"q.weight": ("uint8", (64, 32)), "q.weight_scale": ("float8_e8m0fnu", (64, 2))}, "mxfp4"),
    "nf4 of bitsandbytes 0.50": (
        {
            "q.weight": ("uint8", (2048, 1)),
            "q.weight.absmax": ("uint8", (64,)),
            "q.weight.quant_map": ("float32", (16,)),
            "q.weight.nested_absmax": ("float32", (1,)),
            "q.weight.quant_state.bitsandbytes__nf4": ("uint8", (80,)),
        },
        "nf4",
    ),
    "fp4 of bitsandbytes 0.50": (
        {"q.weight": ("uint8", (2048, 1)), "q.weight.quant_state.bitsandbytes__fp4": ("uint8", (80,))},
        "fp4",
    ),
    "int8 of bitsandbytes 0.50": (
        {"q.weight": ("int8", (64, 64)), "q.SCB": ("float32", (64,)), "q.weight_format": ("uint8", ())},
        "int8",
    ),
    "int8 of compressed-tensors": ({"q.weight": ("int8", (64, 64)), "q.weight_scale": ("bfloat16", (64, 1))}, "int8"),
    "int8 of quanto": ({"q.weight._data": ("int8", (64, 64)), "q.weight._scale": ("bfloat16", (64, 1))}, "int8"),
    "GPTQ of 4 bits": (
        {
            "q.qweight": ("int32", (512 // 8, 256)),
            "q.qzeros": ("int32", (4, 256 // 8)),
            "q.scales": ("float16", (4, 256)),
            "q.g_idx": ("int32", (512,)),
        },
        "int4 GPTQ",
    ),
    "GPTQ of 8 bits": (
        {"q.qweight": ("int32", (512 // 4, 256)), "q.qzeros": ("int32", (4, 256 // 4)), "q.scales": ("float16", (4, 256))},
        "int8 GPTQ",
    ),
    "GPTQ of 3 bits": (
        {"q.qweight": ("int32", (512 * 3 // 32, 256)), "q.scales": ("float16", (4, 256)), "q.g_idx": ("int32", (512,))},
        "int3 GPTQ",
    ),
    "AWQ": (
        {"q.qweight": ("int32", (512, 256 // 8)), "q.qzeros": ("int32", (4, 256 // 8)), "q.scales": ("float16", (4, 256))},
        "int4 AWQ",
    ),
    "int4 of compressed-tensors": (
        {"q.weight_packed": ("int32", (64, 64)), "q.weight_scale": ("bfloat16", (64, 4)), "q.weight_shape": ("int64", (2,))},
        "int4",
    ),
    "SVDQuant": (
        {"q.qweight": ("int8", (64, 32)), "q.wscales": ("bfloat16", (1, 64)), "q.smooth_factor": ("bfloat16", (64,))},
        "int4 SVDQuant",
    ),
    "SVDQuant with nvfp4": ({"q.qweight": ("int8", (64, 32)), "q.wscales": ("float8_e4m3fn", (4, 64))}, "nvfp4 SVDQuant"),
    "plain": ({"q.weight": ("bfloat16", (64, 64)), "q.bias": ("bfloat16", (64,)), "mask": ("uint8", (64, 64))}, None),
    "a scale that is a parameter": ({"q.weight": ("bfloat16", (64, 64)), "q.scale": ("bfloat16", (64,))}, None),
    "bytes without a scale": ({"q.weight": ("uint8", (64, 32))}, None),
    "one packed layer among many": (
        {"q.weight": ("float8_e4m3fn", (8, 8)), "q.scale_weight": ("float32", ()), "w.weight": ("bfloat16", (512, 512))},
        None,
    ),
    "mostly nvfp4": (
        {
            "a.weight": ("uint8", (64, 32)),
            "a.weight_scale": ("float8_e4m3fn", (64, 4)),
            "b.weight": ("float8_e4m3fn", (32, 32)),
            "b.weight_scale": ("float32", ()),
        },
        "nvfp4",
    ),
    "odd": ({"qweight": ("int32", ()), "scales": ("float16", (0, 0)), "qzeros": ("int32", (1,)), "": ("int8", ())}, None),
    "odd shapes": ({"q.qweight": ("int32", (0, 0)), "q.scales": ("float16", (0, 0)), "q.qzeros": ("int32", (0, 0))}, None),
}


@pytest.mark.parametrize("kind", CASES)
def test_scales_beside_packed_weights_say_how_these_are_packed(kind: str) -> None:
    tensors, label = CASES[kind]
    assert label_of(tensors) == label
    assert label_of(dict(reversed([*tensors.items()]))) == label


def test_a_tensor_may_say_it_itself() -> None:
    found = TensorPrecision()
    found.add("w.weight", "bfloat16", (64, 64))
    found.add_stated("nf4", 64 * 64)
    assert found.label() == "nf4"


def test_of_very_many_layers_some_stand_for_all() -> None:
    found = TensorPrecision()
    for number in range(MAX_GROUPS + 500):
        found.add(f"experts.{number}.weight", "float8_e4m3fn", (8, 8))
        found.add(f"experts.{number}.weight_scale_inv", "float32", (1, 1))
    assert found.label() == "fp8 scaled"
    assert len(found._groups) == MAX_GROUPS
