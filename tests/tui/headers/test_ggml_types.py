"""Tests of what ggml's type numbers mean."""

from __future__ import annotations

import pytest

from gpumodels_tui.headers import ggml_types
from gpumodels_tui.headers.ggml_types import KNOWN, ROW_BYTES_UNKNOWN, tensor_type


def test_types_and_sizes_are_those_of_the_gguf_package() -> None:
    gguf = pytest.importorskip("gguf")
    plain = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        name = plain.get(kind.name, kind.name.replace("I", "int") if kind.name in ("I8", "I16", "I32", "I64") else kind.name)
        assert tensor_type(kind.value) == (name, block, size)


def test_the_gguf_package_is_asked_only_for_types_that_are_not_known_here(monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = pytest.importorskip("gguf")
    assert all(gguf.GGMLQuantizationType(number).value == number for number in KNOWN if number != 42)
    asked: list[int] = []
    monkeypatch.setattr(ggml_types, "_from_package", asked.append)
    tensor_type.cache_clear()
    assert [tensor_type(number).name for number in (12, 42, 137, 999)] == ["Q4_K", "Q2_0", "IQ2_K", "ggml type 999"]
    assert asked == [137, 999]
    tensor_type.cache_clear()
    monkeypatch.undo()
    monkeypatch.delitem(ggml_types.KNOWN, 12)
    assert tensor_type(12) == ("Q4_K", 256, 144)
    tensor_type.cache_clear()
    assert not set(KNOWN) & set(ROW_BYTES_UNKNOWN)
