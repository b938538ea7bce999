"""What quantization configs say of how weights are stored: of transformers, diffusers, ModelOpt and others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from gpumodels_shared.precision_words import FP8, bits_in_word, of_simple_word, of_word, torchao_word, word

METHODS: Final[Mapping[str, str]] = {
    "gptq": "GPTQ",
    "gptq_marlin": "GPTQ",
    "awq": "AWQ",
    "awq_marlin": "AWQ",
    "auto-round": "AutoRound",
    "auto_round": "AutoRound",
    "intel/auto-round": "AutoRound",
    "hqq": "HQQ",
    "higgs": "HIGGS",
    "sinq": "SINQ",
    "spqr": "SpQR",
    "svdquant": "SVDQuant",
    "sdnq": "SDNQ",
    "aqlm": "AQLM",
    "vptq": "VPTQ",
    "quip": "QuIP",
    "exl2": "EXL2",
    "exl3": "EXL3",
    "bitnet": "BitNet",
    "metal": "Metal",
}
"""By `quant_method`, the name that people add to the number of bits. Those of bitsandbytes, torchao and others stand alone."""

_UNQUANTIZED: Final = frozenset({"", "none", "dense", "bf16", "bfloat16", "fp16", "float16", "fp32", "float32"})
_QUANTIZED_KEYS: Final = ("quantization_config", "compression_config", "quantization")
_INNER_CONFIGS: Final = ("text_config", "language_config", "llm_config", "thinker_config")

MAX_LAYERS: Final = 100_000


def of_config(config: Mapping[str, object]) -> str | None:
    """What a config says: that of a model (`quantization_config` in it), or a quantization config itself."""
    for key in _QUANTIZED_KEYS:
        inner = config.get(key)
        if isinstance(inner, Mapping):
            return _of_quantization(inner)
    for key in _INNER_CONFIGS:
        inner = config.get(key)
        if isinstance(inner, Mapping) and (found := of_config(inner)) is not None:
            return found
    return _of_quantization(config) if _says_how(config) else None


def _says_how(config: Mapping[str, object]) -> bool:
    """Whether it is a quantization config: AutoGPTQ's `quantize_config.json` has no `quant_method`."""
    return (
        "quant_method" in config or "quant_algo" in config or ("bits" in config and "group_size" in config) or "w_bit" in config
    )


def _of_quantization(config: Mapping[str, object]) -> str | None:
    """What a `quantization_config` says: of transformers, diffusers, compressed-tensors, ModelOpt, MLX and others."""
    if config.get("dequantize") is True:
        return None
    inner = config.get("quantization_config")  # of transformers' CompressedTensorsConfig
    if isinstance(inner, Mapping):
        return _of_quantization(inner)
    method = word(config.get("quant_method", config.get("method")))
    if "quant_algo" in config or method.startswith("modelopt"):
        return _of_modelopt(config)
    if method in ("bitsandbytes", "bnb") or "load_in_4bit" in config or "_load_in_4bit" in config:
        return _of_bitsandbytes(config)
    if method in ("compressed-tensors", "sparseml") or "config_groups" in config:
        return _of_compressed_tensors(config)
    if method == "torchao":
        return _of_torchao(config.get("quant_type"))
    if method == "quark":
        return _of_nested_word(config.get("global_quant_config"))
    if method == "hqq":
        return _with_method(_bits(_nested(config, "quant_config", "weight_quant_params", "nbits")), method)
    if method == "svdquant":
        return _with_word(_nested(config, "weight", "dtype"), method)
    if method in ("fp_quant", "fouroversix"):
        return of_simple_word(word(config.get("forward_dtype", config.get("dtype"))) or "nvfp4")
    if method == "eetq":
        return "int8"
    if method == "gguf":
        return None  # the types of its tensors say more
    if not method:
        return of_simple_word(word(config.get("mode"))) or _with_method(
            _bits(config.get("bits", config.get("w_bit"))), _assumed_method(config)
        )
    if method in ("exl2", "exl3"):
        stated = config.get("bits")
        return f"{METHODS[method]} {stated}bpw" if isinstance(stated, (int, float)) else METHODS[method]
    named = of_simple_word(method)  # fp8, fbgemm_fp8, mxfp4, nvfp4, mxfp8
    if named is not None:
        return named
    if "fp" in (data_type := word(config.get("data_type"))):  # AutoRound's `mx_fp` and `nv_fp4`
        return of_simple_word(data_type.rstrip("0123456789") + str(config.get("bits")))
    stated = _first(config, "bits", "w_bit", "nbits", "num_bits", "weight_bits")
    if stated is None:
        return _with_word(_first(config, "weights", "weights_dtype", "weight_dtype"), method)
    return _with_method(_bits(stated), method)


def _assumed_method(config: Mapping[str, object]) -> str:
    """The method of a config that doesn't name it: AutoGPTQ's has `desc_act`, AutoAWQ's `zero_point`, MLX's neither."""
    if "desc_act" in config or "damp_percent" in config:
        return "gptq"
    return "awq" if "zero_point" in config or "w_bit" in config else ""


def _of_bitsandbytes(config: Mapping[str, object]) -> str | None:
    if config.get("load_in_4bit", config.get("_load_in_4bit")) is True:
        return "nf4" if word(config.get("bnb_4bit_quant_type")) == "nf4" else "fp4"
    return "int8" if config.get("load_in_8bit", config.get("_load_in_8bit")) is True else None


def _of_modelopt(config: Mapping[str, object]) -> str | None:
    stated = word(config.get("quant_algo", config.get("quant_type")))
    if "awq" in stated and "nvfp4" not in stated:
        found = re.search(r"w(\d)a|int(\d)", stated)
        return f"int{next(filter(None, found.groups()))} AWQ" if found else "AWQ"
    if stated == "mixed_precision" or not stated:
        layers = config.get("quantized_layers")
        return of_layers(_layer_words(layers)) if isinstance(layers, Mapping) else _of_compressed_tensors(config)
    return of_simple_word(stated) or bits_in_word(stated)


def _of_compressed_tensors(config: Mapping[str, object]) -> str | None:
    groups = config.get("config_groups")
    found: list[str] = []
    for group in list(groups.values())[:64] if isinstance(groups, Mapping) else []:
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if not isinstance(weights, Mapping):
            continue
        bits, kind = weights.get("num_bits"), word(weights.get("type"))
        form = word(group.get("format", config.get("format")))
        by_format = of_simple_word(form) if "fp4" in form or "mxfp" in form else None
        if by_format is not None:
            found.append(by_format)
        elif kind.startswith("float") and bits == 4:
            found.append("nvfp4" if weights.get("group_size") == 16 else "mxfp4" if weights.get("group_size") == 32 else "fp4")
        elif kind.startswith("float"):
            found.append(FP8)
        elif isinstance(bits, int):
            found.append(f"int{bits}")
    if found:
        return max(dict.fromkeys(found), key=found.count)
    form = word(config.get("format"))
    return of_simple_word(form) or (FP8 if "float-quantized" in form else None)


def _of_torchao(stated: object) -> str | None:
    """`int4_weight_only`, a config's class, or `{"default": {"_type": …, "_data": …}}` as transformers writes it."""
    if isinstance(stated, Mapping):
        inner = stated.get("default", stated)
        if not isinstance(inner, Mapping):
            return _of_torchao(inner)
        name = word(inner.get("_type"))
        data = inner.get("_data")
        dtype = _nested_words(data.get("weight_dtype")) if isinstance(data, Mapping) else ""
        return torchao_word(name, dtype)
    return torchao_word(word(stated), "")


def of_layers(formats: Iterable[str]) -> str | None:
    """What is said of most layers: in ComfyUI's `_quantization_metadata`, ModelOpt's `quantized_layers`, torchao's classes."""
    counts: dict[str, int] = {}
    for stated, _ in zip(formats, range(MAX_LAYERS), strict=False):
        label = of_word(stated)
        if label is not None:
            counts[label] = counts.get(label, 0) + 1
    return max(counts, key=lambda label: counts[label]) if counts else None


def of_comfy_metadata(metadata: Mapping[str, object]) -> str | None:
    """What the JSON under `_quantization_metadata` in a safetensors file of ComfyUI says."""
    layers = metadata.get("layers")
    return of_layers(_layer_words(layers)) if isinstance(layers, Mapping) else None


def _layer_words(layers: Mapping[str, object]) -> Iterable[str]:
    for one in layers.values():
        stated = one.get("format", one.get("quant_algo")) if isinstance(one, Mapping) else one
        if isinstance(stated, str):
            yield stated


def _nested_words(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(_nested_words(inner) for inner in list(value.values())[:16])
    return word(value)


def _of_nested_word(value: object) -> str | None:
    weight = value.get("weight") if isinstance(value, Mapping) else None
    if isinstance(weight, list) and weight:
        weight = weight[0]
    text = word(weight.get("dtype")) if isinstance(weight, Mapping) else ""
    if text == "fp4" and isinstance(weight, Mapping) and weight.get("group_size") == 32:
        return "mxfp4"
    return of_simple_word(text) or bits_in_word(text)


def _nested(config: Mapping[str, object], *keys: str) -> object:
    value: object = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _first(config: Mapping[str, object], *keys: str) -> object:
    return next((config[key] for key in keys if config.get(key) is not None), None)


def _bits(stated: object) -> str | None:
    if isinstance(stated, float) and stated.is_integer():
        stated = int(stated)
    return f"int{stated}" if isinstance(stated, int) and not isinstance(stated, bool) and 1 <= stated <= 8 else None


def _with_method(label: str | None, method: str) -> str | None:
    name = METHODS.get(method)
    return " ".join(part for part in (label, name) if part) or None


def _with_word(stated: object, method: str) -> str | None:
    text = word(stated)
    if not text or text in _UNQUANTIZED:
        return METHODS.get(method)
    return _with_method(of_simple_word(text) or bits_in_word(text), method)
