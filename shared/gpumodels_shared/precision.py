"""How weights are stored, as people call it: `nvfp4`, `int4 GPTQ`, `Q4_K_M`, `fp8 scaled`, where dtypes say only `uint8`.

Both sides ask here, with what they know: a model's own quantization config and what a file's metadata say of its layers
(`quantization_configs`), GGUF's file type (here), or the tensors themselves, of which scales beside packed weights say how these
are packed (`packed_tensors`). None is "as the dtypes say".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gpumodels_shared.packed_tensors import MIN_SHARE

FILE_TYPES: Final[Mapping[int, str]] = {
    2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S",
    15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS",
    24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
    135: "Q6_0", 136: "IQ1_BN", 137: "IQ2_BN", 138: "IQ2_K", 139: "IQ3_K", 140: "IQ4_K", 141: "IQ5_K", 142: "IQ6_K",
    145: "IQ4_KS", 146: "IQ3_KL", 147: "IQ2_KS", 148: "IQ4_KSS", 150: "IQ5_KS", 151: "IQ2_KT", 152: "IQ3_KT", 153: "IQ4_KT",
    154: "IQ3_KS", 155: "IQ2_KL", 156: "IQ1_KT",
}  # fmt: skip
"""By `general.file_type`: llama.cpp's `llama_ftype` (b9932); from 135 on ik_llama.cpp's. Those of plain dtypes are left out."""
_LOWER_CASE: Final[Mapping[str, str]] = {"MXFP4": "mxfp4", "MXFP4_MOE": "mxfp4", "NVFP4": "nvfp4"}
_BLOCKS: Final = r"^(IQ\d|Q\d|TQ\d|PQ\d|PTQ\d|MXFP4|NVFP4|I2_S)"
"""How the names of types of blocks begin."""


def of_gguf(file_type: str | None, dtypes: Mapping[str, int]) -> str | None:
    """`Q4_K_M` by the file type, where tensors are stored so; else the type of most blocks; None if there are no blocks.

    Args:
        file_type: `general.file_type`, as text; None if it isn't known.
        dtypes: bytes by type: in the file, or in memory.
    """
    blocks = {name: size for name, size in dtypes.items() if re.match(_BLOCKS, name)}
    if not blocks or sum(blocks.values()) < MIN_SHARE * sum(dtypes.values()):
        return None
    stated = FILE_TYPES.get(int(file_type)) if file_type is not None and file_type.isdecimal() and len(file_type) < 6 else None
    if stated is not None:
        of_family = sum(size for name, size in blocks.items() if _family(name) == _family(stated))
        if of_family >= MIN_SHARE * sum(blocks.values()):
            return _LOWER_CASE.get(stated, stated)
    most = max(blocks, key=lambda name: (blocks[name], name))
    return _LOWER_CASE.get(most, most)


def _family(name: str) -> str:
    found = re.match(_BLOCKS, name, re.IGNORECASE)
    return found[0].upper() if found else ""


def fits(label: str, dtypes: Mapping[str, int]) -> bool:
    """Whether a model of these bytes by dtype in memory may be stored so: a file's weights may have been unpacked when loaded."""
    word = label.split(" ")[0].lower()
    held = {dtype for dtype, size in dtypes.items() if size > 0}
    if re.match(_BLOCKS, label):
        return "uint8" in held or any(_family(dtype) == _family(label) for dtype in held)
    if word in ("nvfp4", "mxfp4") and word.upper() in held:
        return True
    if word in ("fp8", "mxfp8"):
        return any(dtype.startswith("float8") for dtype in held) or "uint8" in held
    return not held.isdisjoint({"uint8", "int8", "int16", "int32", "int64", "float4_e2m1fn_x2", "uint16", "uint32"})
