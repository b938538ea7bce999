"""What the names of formats and classes say of how weights are stored: `float8_e4m3fn`, `Int4WeightOnlyConfig`, `NF4`."""

from __future__ import annotations

import re
from typing import Final

FP8: Final = "fp8 scaled"
"""Eight-bit floats with scales beside them; without any, the dtype says all."""

_WORDS: Final = (
    (r"nvfp4|nv_fp4", "nvfp4"),
    (r"mx_?fp4|mxf4", "mxfp4"),
    (r"mx_?fp6", "mxfp6"),
    (r"mx_?fp8", "mxfp8"),
    (r"nf4", "nf4"),
    (r"fp4|float4", "fp4"),
    (r"fp6|float6", "fp6"),
    (r"fp8|float8|e4m3|e5m2", FP8),
)
"""What words for the type of weights mean, the first that is found."""
_WEIGHT_TYPE: Final = r"((?:nv|mx)?(?:u?int|float|fp)\d+)_?weight"
"""torchao's names say activations, too: `Int8DynamicActivationInt4WeightConfig`."""


def of_word(stated: str) -> str | None:
    """What a format's or a class's name says: `float8_e4m3fn`, `TensorCoreNVFP4Layout`, `int8_tensorwise`, `Int4Tensor`."""
    return torchao_word(word(stated), "")


def torchao_word(name: str, dtype: str) -> str | None:
    """What the name of a class of torchao says, in lower case, and the dtype beside it, which may be empty."""
    found = re.search(_WEIGHT_TYPE, name)
    text = found[1] if found else name
    said = of_simple_word(text) or bits_in_word(text)
    if said is None and name.startswith("mx") and dtype:
        return "mxfp4" if "float4" in dtype or "fp4" in dtype else "mxfp8"
    return said or of_simple_word(dtype) or bits_in_word(dtype)


def word(stated: object) -> str:
    """A text in lower case, without blanks around it; empty for anything else."""
    return stated.strip().lower() if isinstance(stated, str) else ""


def of_simple_word(text: str) -> str | None:
    """What a text in lower case says of floats."""
    return next((label for pattern, label in _WORDS if re.search(pattern, text)), None)


def bits_in_word(text: str) -> str | None:
    """What a text in lower case says of integers."""
    found = re.search(r"int(\d)(?!\d)", text)
    return f"int{found[1]}" if found else None
