"""Tells from a model's tensors how its weights are packed: by their names, dtypes and shapes, as each library stores them.

| tensors | precision |
|---|---|
| `weight` float8, with `weight_scale`, `weight_scale_inv`, `scale_weight` | fp8 scaled (ComfyUI, DeepSeek, ModelOpt) |
| `weight` bytes, `weight_scale` float8_e4m3fn | nvfp4 (ModelOpt, ComfyUI); `weight_packed`: compressed-tensors |
| `weight` bytes, `weight_scale` float8_e8m0fnu or bytes | mxfp4; `…_blocks` and `…_scales`: gpt-oss |
| `weight` float8, a scale of one byte for each 32 elements | mxfp8 |
| `weight.quant_state.bitsandbytes__nf4` | nf4, fp4 (bitsandbytes) |
| `weight` int8, `SCB` or `weight_scale` | int8 (bitsandbytes, compressed-tensors, ComfyUI) |
| `qweight` int32, `qzeros`, `scales` | int4 GPTQ, with as many columns as the scales; else int4 AWQ |
| `qweight` int8, `wscales` | int4 or nvfp4 SVDQuant (nunchaku) |
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Final

from gpumodels_shared.precision_words import FP8

Shape = tuple[int, ...]
Group = Mapping[str, tuple[str, Shape]]
"""By name, dtype and shape of a module's tensors."""

_BYTES: Final = ("uint8", "float4_e2m1fn_x2", "int8")
_ONE_BYTE_EXPONENTS: Final = ("float8_e8m0fnu", "uint8")
_BITS: Final = (2, 3, 4, 8)
_GROUP_SIZES: Final = (128, 64, 32)
_BITSANDBYTES: Final = r"quant_state\.bitsandbytes__(nf4|fp4)$"
MX_BLOCK: Final = 32
"""How many elements share a scale in the formats of the Open Compute Project."""

MIN_SHARE: Final = 0.1
"""The least part of a model's parameters that must be packed for it to be called so by its tensors."""
MAX_GROUPS: Final = 4_096
"""How many modules with packed weights are looked at; of more, these stand for all."""
PACKED: Final = frozenset(
    {"uint8", "int8", "int16", "int32", "float4_e2m1fn_x2", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"}
)
"""Dtypes that hold packed weights."""
MAX_IN_GROUP: Final = 64
_STATE_NAME: Final = r"scale|absmax|quant_state|SCB|g_idx|qzeros|_shape$|quant_map|smooth"
"""Names of what belongs to packed weights. Patterns are compiled by `re` at first use, to keep the host's start fast."""


class TensorPrecision:
    """Learns from a model's tensors, one after the other, how its weights are packed; takes bounded memory."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, tuple[str, Shape]]] = {}
        self._elements = 0
        self._votes: dict[str, int] = {}
        self._is_sample = False

    def add(self, key: str, dtype: str, shape: Shape) -> None:
        """Add a tensor.

        Args:
            key: its name in the model or the file.
            dtype: torch's name.
            shape: as it is stored.
        """
        elements = 1
        for size in shape:
            elements *= size
        self._elements += elements
        module, name = _split(key)
        if dtype not in PACKED and not re.search(_STATE_NAME, name):
            return
        group = self._groups.get(module)
        if group is None:
            if len(self._groups) >= MAX_GROUPS:
                self._is_sample = True
                return
            group = self._groups[module] = {}
        if len(group) < MAX_IN_GROUP:
            group[name] = (dtype, shape)

    def add_unpacked(self, elements: int) -> None:
        """Add so many elements that aren't packed."""
        self._elements += elements

    def add_stated(self, label: str, elements: int) -> None:
        """Add a tensor that says itself how it is stored.

        Args:
            label: as people call it.
            elements: how many elements it has as stored.
        """
        self._elements += elements
        self._votes[label] = self._votes.get(label, 0) + elements

    def label(self) -> str | None:
        """How most of the packed weights are stored; None if they are too few, or nothing says it."""
        votes = dict(self._votes)
        for group in self._groups.values():
            found = label_of_group(group)
            if found is not None:
                votes[found[0]] = votes.get(found[0], 0) + found[1]
        packed = sum(votes.values())
        if not packed or (not self._is_sample and packed < MIN_SHARE * self._elements):
            return None
        return max(votes, key=lambda label: (votes[label], label))


def label_of_group(group: Group) -> tuple[str, int] | None:
    """How the module's weight is packed, and how many elements that are; None if nothing says it."""
    for name in group:
        found = re.search(_BITSANDBYTES, name)
        if found is not None and "weight" in group:
            return found[1], 2 * prod(group["weight"][1])
    if "qweight" in group:
        return _of_qweight(group)
    blocks = [name for name in group if name.endswith("blocks") and name[:-6] + "scales" in group]
    if blocks:
        are_bytes = all(group[name][0] == "uint8" for name in blocks)
        return ("mxfp4", sum(2 * prod(group[name][1]) for name in blocks)) if are_bytes else None
    if "weight_packed" in group:
        return _of_weight_packed(group)
    best: tuple[str, int] | None = None
    for name, (dtype, shape) in group.items():
        found_here = _of_weight(name, dtype, shape, group)
        if found_here is not None and (best is None or found_here[1] > best[1]):
            best = found_here
    return best


def _of_weight(name: str, dtype: str, shape: Shape, group: Group) -> tuple[str, int] | None:
    """A weight with its scale beside it; `gate_up_proj` has `gate_up_proj_scale`, `weight._data` has `weight._scale`."""
    if len(shape) < 2 or "scale" in name:
        return None
    scale = _scale_of(name, group)
    if scale is None:
        return None
    scale_dtype, scale_shape = scale
    elements = prod(shape)
    if dtype.startswith("float8"):
        is_mx = scale_dtype in _ONE_BYTE_EXPONENTS and prod(scale_shape) * MX_BLOCK == elements
        return "mxfp8" if is_mx else FP8, elements
    if dtype in ("uint8", "float4_e2m1fn_x2"):
        if scale_dtype == "float8_e4m3fn":
            return "nvfp4", 2 * elements
        if scale_dtype in _ONE_BYTE_EXPONENTS and prod(scale_shape) * MX_BLOCK == 2 * elements:
            return "mxfp4", 2 * elements
        return None
    return ("int8", elements) if dtype == "int8" else None


def _scale_of(name: str, group: Group) -> tuple[str, Shape] | None:
    names = [f"{name}_scale", f"{name}_scale_inv", f"{name}_weight_scale", f"scale_{name}"]
    if name == "weight":
        names += ["SCB", "weight.SCB", "scale", "scales", "weight_scale_1"]
    if name == "weight._data":
        names.append("weight._scale")
    return next((group[one] for one in names if one in group), None)


def _of_qweight(group: Group) -> tuple[str, int] | None:
    dtype, shape = group["qweight"]
    if "wscales" in group:
        scale_dtype = group["wscales"][0]
        return ("nvfp4" if scale_dtype.startswith("float8") else "int4") + " SVDQuant", 2 * prod(shape)
    scales = group.get("scales")
    if dtype not in ("int32", "int16") or len(shape) != 2 or scales is None or len(scales[1]) != 2:
        return None
    width = 32 if dtype == "int32" else 16
    outputs = scales[1][1]
    if shape[1] == outputs:
        bits = _gptq_bits(group, shape, outputs, width)
        return (f"int{bits} GPTQ" if bits else "GPTQ"), prod(shape) * width // (bits or 4)
    bits = shape[1] * width // outputs if outputs and not shape[1] * width % outputs else 0
    return (f"int{bits} AWQ", prod(shape) * width // bits) if bits in _BITS else None


def _gptq_bits(group: Group, shape: Shape, outputs: int, width: int) -> int | None:
    """By the zero points, which are packed along the columns, or by the number of rows that `g_idx` has before packing."""
    zeros, rows = group.get("qzeros"), group.get("g_idx")
    if zeros is not None and len(zeros[1]) == 2 and outputs:
        bits = round(zeros[1][1] * width / outputs)
        if bits in _BITS:
            return bits
    if rows is not None and rows[1] and rows[1][0]:
        bits = round(shape[0] * width / rows[1][0])
        if bits in _BITS:
            return bits
    return None


def _of_weight_packed(group: Group) -> tuple[str, int] | None:
    dtype, shape = group["weight_packed"]
    scale = group.get("weight_scale")
    if scale is None or len(shape) != 2 or len(scale[1]) != 2:
        return None
    scale_dtype, (_, columns) = scale
    if dtype in _BYTES:
        label = "nvfp4" if scale_dtype == "float8_e4m3fn" else "mxfp4" if scale_dtype in _ONE_BYTE_EXPONENTS else None
        return (label, 2 * prod(shape)) if label else None
    for size in _GROUP_SIZES if columns > 1 else ():
        for bits in (4, 8):
            if shape[1] * 32 == columns * size * bits:
                return f"int{bits}", prod(shape) * 32 // bits
    return None


def _split(key: str) -> tuple[str, str]:
    """A tensor's module and its name in it; what is said of a weight stands with it (`weight.absmax`)."""
    module, _, name = key.rpartition(".")
    if (at := key.rfind(".weight.")) >= 0:
        return key[:at], key[at + 1 :]
    return module, name
