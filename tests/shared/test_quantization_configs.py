"""Tests of what quantization configs say, as the libraries write them."""

from __future__ import annotations

import pytest

from gpumodels_shared.quantization_configs import of_comfy_metadata, of_config

CONFIGS: dict[str, tuple[dict[str, object], str | None]] = {
    # transformers 5.24
    "GPTQ": ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}, "int4 GPTQ"),
    "GPTQ of 8 bits": ({"quant_method": "gptq", "bits": 8}, "int8 GPTQ"),
    "AWQ": ({"quant_method": "awq", "bits": 4, "zero_point": True, "version": "gemm"}, "int4 AWQ"),
    "AutoRound": (
        {"quant_method": "auto-round", "bits": 4, "data_type": "int", "packing_format": "auto_round:auto_gptq"},
        "int4 AutoRound",
    ),
    "AutoRound, MXFP4": ({"quant_method": "auto-round", "bits": 4, "data_type": "mx_fp"}, "mxfp4"),
    "AutoRound, NVFP4": ({"quant_method": "auto-round", "bits": 4, "data_type": "nv_fp4"}, "nvfp4"),
    "bitsandbytes, nf4": ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
    "bitsandbytes, fp4": ({"_load_in_4bit": True, "_load_in_8bit": False, "bnb_4bit_quant_type": "fp4"}, "fp4"),
    "bitsandbytes, int8": ({"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": True}, "int8"),
    "bitsandbytes, neither": ({"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": False}, None),
    "HQQ": ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, "int4 HQQ"),
    "HIGGS": ({"quant_method": "higgs", "bits": 4}, "int4 HIGGS"),
    "SINQ": ({"quant_method": "sinq", "nbits": 4}, "int4 SINQ"),
    "SpQR": ({"quant_method": "spqr", "bits": 3}, "int3 SpQR"),
    "AQLM": ({"quant_method": "aqlm", "nbits_per_codebook": 16, "num_codebooks": 1}, "AQLM"),
    "VPTQ": ({"quant_method": "vptq", "config_for_layers": {}}, "VPTQ"),
    "BitNet": ({"quant_method": "bitnet"}, "BitNet"),
    "EETQ": ({"quant_method": "eetq", "weights": "int8"}, "int8"),
    "quanto, int4": ({"quant_method": "quanto", "weights": "int4"}, "int4"),
    "quanto, float8": ({"quant_method": "quanto", "weights": "float8"}, "fp8 scaled"),
    "DeepSeek's fp8": ({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}, "fp8 scaled"),
    "fbgemm": ({"quant_method": "fbgemm_fp8"}, "fp8 scaled"),
    "unpacked when loaded": ({"quant_method": "fp8", "dequantize": True}, None),
    "gpt-oss": ({"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, "mxfp4"),
    "nvfp4": ({"quant_method": "nvfp4"}, "nvfp4"),
    "mxfp8": ({"quant_method": "mxfp8"}, "mxfp8"),
    "FP-Quant": ({"quant_method": "fp_quant", "forward_dtype": "mxfp4"}, "mxfp4"),
    "GGUF": ({"quant_method": "gguf"}, None),
    # torchao 0.18, by transformers and by diffusers
    "torchao, a name": ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "int4"),
    "torchao, activations too": ({"quant_method": "torchao", "quant_type": "int8_dynamic_activation_int4_weight"}, "int4"),
    "torchao, a class": ({"quant_method": "torchao", "quant_type": "Float8DynamicActivationFloat8WeightConfig"}, "fp8 scaled"),
    "torchao, as saved": (
        {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}}},
        "int4",
    ),
    "torchao, mx": (
        {
            "quant_method": "torchao",
            "quant_type": {
                "default": {
                    "_type": "MXDynamicActivationMXWeightConfig",
                    "_data": {"weight_dtype": {"_data": "float4_e2m1fn_x2", "_type": "torch.dtype"}},
                }
            },
        },
        "mxfp4",
    ),
    "torchao, intx": (
        {
            "quant_method": "torchao",
            "quant_type": {"default": {"_type": "IntxWeightOnlyConfig", "_data": {"weight_dtype": {"_data": "int4"}}}},
        },
        "int4",
    ),
    "torchao, nvfp4": ({"quant_method": "torchao", "quant_type": "NVFP4DynamicActivationNVFP4WeightConfig"}, "nvfp4"),
    # compressed-tensors
    "compressed-tensors, nvfp4": (
        {
            "quant_method": "compressed-tensors",
            "format": "nvfp4-pack-quantized",
            "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}},
        },
        "nvfp4",
    ),
    "compressed-tensors, int4": (
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}},
        },
        "int4",
    ),
    "compressed-tensors, W8A8": (
        {
            "quant_method": "compressed-tensors",
            "format": "int-quantized",
            "config_groups": {
                "group_0": {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8, "type": "int"}}
            },
        },
        "int8",
    ),
    "compressed-tensors, fp8": (
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}},
        "fp8 scaled",
    ),
    "compressed-tensors, mxfp4": (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float", "group_size": 32}}},
        },
        "mxfp4",
    ),
    "compressed-tensors, nothing": ({"quant_method": "compressed-tensors", "format": "dense"}, None),
    # ModelOpt, in config.json and in hf_quant_config.json
    "ModelOpt": ({"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}, "nvfp4"),
    "ModelOpt, fp8": ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8 scaled"),
    "ModelOpt, awq": ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, "int4 AWQ"),
    "ModelOpt, mixed": (
        {
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {"a": {"quant_algo": "NVFP4"}, "b": {"quant_algo": "NVFP4"}, "c": {"quant_algo": "FP8"}},
        },
        "nvfp4",
    ),
    # others
    "Quark": ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "group_size": 32}}}, "mxfp4"),
    "Quark, fp8": ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}}, "fp8 scaled"),
    "nunchaku": ({"method": "svdquant", "weight": {"dtype": "int4", "group_size": 64}}, "int4 SVDQuant"),
    "ExLlamaV2": ({"quant_method": "exl2", "bits": 4.65}, "EXL2 4.65bpw"),
    "SDNQ": ({"quant_method": "sdnq", "weights_dtype": "int8"}, "int8 SDNQ"),
    "unknown": ({"quant_method": "brand-new", "bits": 4}, "int4"),
    "unknown, without bits": ({"quant_method": "brand-new"}, None),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_quantization_config_says_what_people_call_it(kind: str) -> None:
    config, label = CONFIGS[kind]
    assert of_config({"model_type": "acme", "quantization_config": config}) == label
    assert of_config({"model_type": "acme", "text_config": {"quantization_config": config}}) == label


@pytest.mark.parametrize(
    ("config", "label"),
    [
        ({"bits": 4, "group_size": 128, "desc_act": True, "damp_percent": 0.01}, "int4 GPTQ"),  # AutoGPTQ's quantize_config.json
        ({"zero_point": True, "q_group_size": 128, "w_bit": 4, "version": "GEMM"}, "int4 AWQ"),  # AutoAWQ's quant_config.json
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}, "nvfp4"),  # hf_quant_config.json
        ({"quantization": {"group_size": 64, "bits": 4}}, "int4"),  # MLX
        ({"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}, "mxfp4"),
        ({"model_type": "bert", "bits": 3}, None),
        ({}, None),
        ({"quantization_config": None}, None),
        ({"quantization_config": {"quant_method": 7, "bits": [4], "config_groups": 3}}, None),
        ({"quantization_config": {"quant_method": "torchao", "quant_type": {"default": 3}}}, None),
        ({"quantization_config": {"quant_method": "gptq", "bits": True}}, "GPTQ"),
    ],
)
def test_configs_of_other_forms_are_read_and_others_say_nothing(config: dict[str, object], label: str | None) -> None:
    assert of_config(config) == label


@pytest.mark.parametrize(
    ("formats", "label"),
    [
        (["nvfp4", "nvfp4", "float8_e4m3fn"], "nvfp4"),
        (["float8_e4m3fn"], "fp8 scaled"),
        (["float8_e5m2"], "fp8 scaled"),
        (["mxfp8"], "mxfp8"),
        (["int8_tensorwise"], "int8"),
        ([], None),
        (["brand-new"], None),
    ],
)
def test_comfyui_says_it_of_each_layer(formats: list[str], label: str | None) -> None:
    """ComfyUI 0.3.70 and later: `_quantization_metadata` in a safetensors file's metadata."""
    layers = {f"blocks.{number}.attn.qkv": {"format": one} for number, one in enumerate(formats)}
    assert of_comfy_metadata({"format_version": "1.0", "layers": layers}) == label
    assert of_comfy_metadata({"layers": 7}) is None
    assert of_comfy_metadata({"layers": {"a": 7, "b": {"format": 7}}}) is None
