"""The types of GGUF's tensors, by ggml's number: what they are called, and how many bytes a block of them takes.

A number may mean several things: Prism's fork wrote Q2_0 with 128 elements in a block where ggml has 64 (llama.cpp b9916), and
the numbers of ik_llama.cpp stand in no other program. So a type's size is only believed where the tensors' offsets allow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple


class TensorType(NamedTuple):
    """How one of ggml's types stores elements."""

    name: str
    """torch's, where torch has the type."""
    elements: int
    """Per block."""
    size_bytes: int
    """Of a block; 0 if it isn't known."""

    def allows(self, bits: int, elements: int) -> bool:
        """Whether tensors of this type may take so many bits: a number that a fork gave to a type of its own shows by that."""
        stated = 8 * self.size_bytes / self.elements
        return not stated or (1 - SIMILAR) * stated * elements <= bits <= (1 + SIMILAR) * stated * elements


SIMILAR: Final = 0.2
"""By what part the bits per element of a type may differ between ggml and a fork: 2.125 and 2.25 of Q2_0."""


KNOWN: Final[Mapping[int, TensorType]] = {
    number: TensorType(*stored)
    for number, stored in {
        0: ("float32", 1, 4),
        1: ("float16", 1, 2),
        2: ("Q4_0", 32, 18),
        3: ("Q4_1", 32, 20),
        6: ("Q5_0", 32, 22),
        7: ("Q5_1", 32, 24),
        8: ("Q8_0", 32, 34),
        9: ("Q8_1", 32, 40),
        10: ("Q2_K", 256, 84),
        11: ("Q3_K", 256, 110),
        12: ("Q4_K", 256, 144),
        13: ("Q5_K", 256, 176),
        14: ("Q6_K", 256, 210),
        15: ("Q8_K", 256, 292),
        16: ("IQ2_XXS", 256, 66),
        17: ("IQ2_XS", 256, 74),
        18: ("IQ3_XXS", 256, 98),
        19: ("IQ1_S", 256, 50),
        20: ("IQ4_NL", 32, 18),
        21: ("IQ3_S", 256, 110),
        22: ("IQ2_S", 256, 82),
        23: ("IQ4_XS", 256, 136),
        24: ("int8", 1, 1),
        25: ("int16", 1, 2),
        26: ("int32", 1, 4),
        27: ("int64", 1, 8),
        28: ("float64", 1, 8),
        29: ("IQ1_M", 256, 56),
        30: ("bfloat16", 1, 2),
        34: ("TQ1_0", 256, 54),
        35: ("TQ2_0", 256, 66),
        39: ("MXFP4", 32, 17),
        40: ("NVFP4", 64, 36),
        41: ("Q1_0", 128, 18),
        42: ("Q2_0", 64, 18),
    }.items()
}

ROW_BYTES_UNKNOWN: Final[Mapping[int, str]] = {
    36: "I2_S",
    133: "Q6_0",
    134: "IQ1_BN",
    135: "IQ2_BN",
    136: "Q8_K64",
    137: "IQ2_K",
    138: "IQ3_K",
    139: "IQ4_K",
    140: "IQ5_K",
    141: "IQ6_K",
    142: "PQ2_0",
    143: "PTQ1_0",
    144: "IQ4_KS",
    145: "IQ2_KS",
    146: "IQ4_KSS",
    152: "IQ5_KS",
    153: "IQ2_KT",
    154: "IQ3_KT",
    155: "IQ4_KT",
    156: "IQ3_KS",
    157: "IQ2_KL",
    158: "IQ1_KT",
    202: "Q4_0_R8",
    206: "Q5_0_R4",
    208: "Q8_0_R8",
    210: "Q2_K_R4",
    211: "Q3_K_R4",
    212: "Q4_K_R4",
    213: "Q5_K_R4",
    214: "Q6_K_R4",
    223: "IQ4_XS_R8",
    230: "BF16_R16",
    233: "Q6_0_R4",
    335: "IQ2_BN_R4",
    337: "IQ2_K_R4",
    338: "IQ3_K_R4",
    339: "IQ4_K_R4",
    340: "IQ5_K_R4",
    344: "IQ4_KS_R4",
    352: "IQ5_KS_R4",
}
"""Names of the types of ik_llama.cpp (and 142 and 143 of Prism's fork). Some begin each row with a scale, so that no size of a
block gives the tensor's."""


@lru_cache(maxsize=256)
def tensor_type(number: int) -> TensorType:
    """What is known of the type: by the table here, else by the package `gguf`, which may be newer."""
    known = KNOWN.get(number) or _from_package(number)
    return known or TensorType(ROW_BYTES_UNKNOWN.get(number, f"ggml type {number}"), 1, 0)


def _from_package(number: int) -> TensorType | None:
    """The package is imported only for a type that isn't known here: it takes 0.1 s and, with numpy, 24 MB."""
    try:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        kind = GGMLQuantizationType(number)
        elements, size_bytes = GGML_QUANT_SIZES[kind]
    except (ImportError, ValueError, KeyError, TypeError, MemoryError):
        return None
    return TensorType(str(kind.name), int(elements), int(size_bytes))
