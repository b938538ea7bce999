"""Tests of what names of formats and classes say."""

from __future__ import annotations

import pytest

from gpumodels_shared.precision_words import of_word


@pytest.mark.parametrize(
    ("stated", "label"),
    [
        ("TensorCoreNVFP4Layout", "nvfp4"),  # comfy_kitchen
        ("TensorCoreFP8E4M3Layout", "fp8 scaled"),
        ("TensorCoreMXFP8Layout", "mxfp8"),
        ("TensorWiseINT8Layout", "int8"),
        ("NVFP4Tensor", "nvfp4"),  # torchao 0.18
        ("Float8Tensor", "fp8 scaled"),
        ("Int4Tensor", "int4"),
        ("Int4TilePackedTo4dTensor", "int4"),
        ("Int8Tensor", "int8"),
        ("AffineQuantizedTensor", None),
        ("MXTensor", None),
        ("nf4", "nf4"),
        ("mxfp4", "mxfp4"),
        ("bfloat16", None),
        ("", None),
    ],
)
def test_a_name_says_how_weights_are_stored(stated: str, label: str | None) -> None:
    assert of_word(stated) == label
