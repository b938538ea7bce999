"""Tests of GGUF's file types, and of whether a file's precision can be that in memory."""

from __future__ import annotations

import pytest

from gpumodels_shared.precision import FILE_TYPES, fits, of_gguf


@pytest.mark.parametrize(
    ("file_type", "dtypes", "label"),
    [
        ("15", {"Q4_K": 700, "Q6_K": 250, "float32": 50}, "Q4_K_M"),
        ("7", {"Q8_0": 990, "float32": 10}, "Q8_0"),
        ("27", {"IQ3_S": 700, "Q4_K": 300}, "IQ3_M"),
        ("38", {"MXFP4": 900, "Q8_0": 100}, "mxfp4"),
        ("39", {"NVFP4": 900}, "nvfp4"),
        ("41", {"Q2_0": 900}, "Q2_0"),
        ("140", {"IQ4_K": 900}, "IQ4_K"),
        # What nobody stated, or what the tensors contradict, is told by most of them.
        (None, {"Q4_K": 700, "Q6_K": 250}, "Q4_K"),
        ("1024", {"Q4_K": 700, "Q6_K": 250}, "Q4_K"),
        ("1", {"Q8_0": 900, "float16": 100}, "Q8_0"),
        ("15", {"Q8_0": 900}, "Q8_0"),
        ("x", {"IQ4_XS": 900}, "IQ4_XS"),
        ("9" * 5_000, {"IQ4_XS": 900}, "IQ4_XS"),
        ("15", {"bfloat16": 900}, None),
        ("15", {"Q4_K": 9, "float32": 900}, None),
        (None, {}, None),
    ],
)
def test_a_gguf_file_is_called_by_its_file_type_where_its_tensors_agree(
    file_type: str | None, dtypes: dict[str, int], label: str | None
) -> None:
    assert of_gguf(file_type, dtypes) == label


def test_file_types_are_those_of_the_gguf_package() -> None:
    gguf = pytest.importorskip("gguf")
    for kind in gguf.LlamaFileType:
        if kind.name.startswith("MOSTLY_") and kind.name not in ("MOSTLY_F16", "MOSTLY_BF16"):
            assert FILE_TYPES[kind.value] == kind.name.removeprefix("MOSTLY_")


@pytest.mark.parametrize(
    ("label", "dtypes", "expected"),
    [
        ("int4 GPTQ", {"int32": 700, "float16": 300}, True),
        ("int4 GPTQ", {"float16": 300}, False),
        ("nf4", {"uint8": 700, "bfloat16": 300}, True),
        ("nf4", {"bfloat16": 300}, False),
        ("fp8 scaled", {"float8_e4m3fn": 700}, True),
        ("fp8 scaled", {"bfloat16": 700}, False),
        ("nvfp4", {"uint8": 700}, True),
        ("nvfp4", {"NVFP4": 700}, True),
        ("Q4_K_M", {"Q4_K": 700, "Q6_K": 250}, True),
        ("Q4_K_M", {"uint8": 700}, True),
        ("Q4_K_M", {"Q8_0": 700}, False),
        ("Q4_K_M", {"bfloat16": 700}, False),
        ("int8", {"int8": 0, "bfloat16": 1}, False),
    ],
)
def test_a_file_that_was_unpacked_when_it_was_loaded_says_nothing_of_memory(
    label: str, dtypes: dict[str, int], expected: bool
) -> None:
    """transformers 5.24 unpacks GGUF files, and FineGrainedFP8Config(dequantize=True) fp8."""
    assert fits(label, dtypes) is expected
