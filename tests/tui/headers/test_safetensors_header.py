"""Tests of safetensors headers, good and broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpumodels_tui.headers.headers import FileHeader
from gpumodels_tui.headers.safetensors_header import read_values, recognises
from gpumodels_tui.headers.stored_tensors import packed_shapes
from header_replies import header_of, reply_about
from model_files import BROKEN, framed, safetensors_bytes, write_model


def test_a_header_tells_metadata_tensors_and_bytes_by_dtype(tmp_path: Path) -> None:
    tensors = {"a": ("BF16", (4, 8)), "b": ("F8_E4M3", (100,)), "c": ("F32", ()), "d": ("BF16", (2,))}
    path = write_model(tmp_path / "m.safetensors", tensors, {"modelspec.title": "Flüx"})
    assert header_of(path, ".safetensors") == FileHeader(
        "safetensors",
        {"modelspec.title": "Flüx"},
        4,
        {"float8_e4m3fn": 100, "bfloat16": 68, "float32": 4},
        packed_shapes([("bfloat16", (4, 8)), ("float8_e4m3fn", (100,)), ("float32", ()), ("bfloat16", (2,))]),
    )


def test_metadata_may_use_the_words_of_a_tensor(tmp_path: Path) -> None:
    said = {"shape": "square", "dtype": "F16", "data_offsets": "none"}
    header = header_of(write_model(tmp_path / "m.safetensors", {"a": ("BF16", (4, 8))}, said), ".safetensors")
    assert (header.metadata, header.dtypes, header.tensors) == (said, {"bfloat16": 64}, 1)


def test_four_bit_tensors_take_half_a_byte_each(tmp_path: Path) -> None:
    assert header_of(write_model(tmp_path / "m.safetensors", {"a": ("F4", (3, 4))}), ".safetensors").dtypes == {
        "float4_e2m1fn_x2": 6
    }


def test_a_file_without_metadata_or_tensors_is_a_file(tmp_path: Path) -> None:
    assert header_of(write_model(tmp_path / "m.safetensors", {}), ".safetensors") == FileHeader("safetensors")


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_gives_a_reason(tmp_path: Path, kind: str) -> None:
    content, reason = BROKEN[kind]
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    reply = reply_about(path, ".safetensors")
    assert reply.header is None
    assert reply.reason is not None
    assert reply.reason.startswith(reason)
    assert "\n" not in reply.reason


@pytest.mark.parametrize(("kind", "unfinished"), [("header cut off", True), ("zeros", True), ("length of 2^63", False)])
def test_what_may_still_be_written_is_told_from_what_is_broken(tmp_path: Path, kind: str, unfinished: bool) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(BROKEN[kind][0])
    assert reply_about(path, ".safetensors").unfinished is unfinished


@pytest.mark.parametrize(
    ("tensors", "rank"),
    [
        ({"a.lora_down.weight": (16, 640), "a.lora_up.weight": (640, 16), "a.alpha": ()}, 16),
        ({"a.lora_A.weight": (8, 64), "b.lora_A.weight": (8, 32), "b.lora_B.weight": (32, 8)}, 8),
        ({"a.lora_A.weight": (8, 64), "b.lora_A.weight": (4, 64)}, None),
        ({"a.weight": (8, 64)}, None),
        ({"a.lora_down.weight": ()}, None),
    ],
)
def test_a_loras_rank_is_in_its_shapes(tmp_path: Path, tensors: dict[str, tuple[int, ...]], rank: int | None) -> None:
    path = write_model(tmp_path / "m.safetensors", {name: ("F16", shape) for name, shape in tensors.items()})
    assert header_of(path, ".safetensors").rank == rank


@pytest.mark.parametrize(
    ("tensors", "metadata", "precision"),
    [
        ({"q.weight": ("F8_E4M3", (8, 8)), "q.scale_weight": ("F32", ())}, {}, "fp8 scaled"),
        ({"q.weight": ("F8_E4M3", (8, 8))}, {}, None),
        ({"q.qweight": ("I32", (64, 32)), "q.scales": ("F16", (4, 256))}, {}, "int4 AWQ"),
        ({"q.weight": ("U8", (64, 32)), "q.weight_scale": ("F8_E4M3", (64, 4))}, {}, "nvfp4"),
        ({"q.weight": ("U8", (64, 32))}, {"_quantization_metadata": '{"layers": {"q": {"format": "nvfp4"}}}'}, "nvfp4"),
        ({"q.weight": ("U8", (64, 32))}, {"_quantization_metadata": '{"layers'}, None),
        (
            {"q.qweight": ("I8", (8, 8))},
            {"quantization_config": '{"method":"svdquant","weight":{"dtype":"int4"}}'},
            "int4 SVDQuant",
        ),
        ({"q.weight": ("BF16", (8, 8))}, {}, None),
    ],
)
def test_a_file_says_how_its_weights_are_packed(
    tmp_path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str], precision: str | None
) -> None:
    assert header_of(write_model(tmp_path / "m.safetensors", tensors, metadata), ".safetensors").precision == precision


def test_the_quantization_of_thousands_of_layers_is_read(tmp_path: Path) -> None:
    """Longer than what is kept of a metadata value."""
    stated = json.dumps({"layers": {f"model.layers.{number}.mlp": {"format": "nvfp4"} for number in range(5_000)}})
    path = write_model(tmp_path / "m.safetensors", {"q.weight": ("U8", (64, 32))}, {"_quantization_metadata": stated})
    assert header_of(path, ".safetensors").precision == "nvfp4"


def test_a_file_is_recognised_by_a_length_that_fits_and_json_behind_it() -> None:
    good = safetensors_bytes()
    assert recognises(good[:64], len(good))
    for other in (b"", good[:8], b"\1" + bytes(7) + b"{", bytes(8) + b"{", framed(b"[1, 2]"), b"\xff" * 8 + b"{"):
        assert not recognises(other, len(good))
    assert not recognises(good[:64], 20)


def test_where_the_values_stand_is_told_with_the_header(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]}}'
    data = bytes(range(12))
    path = tmp_path / "m.safetensors"
    path.write_bytes(framed(header) + data)
    with path.open("rb") as file:
        read, values = read_values(str(path), file.fileno(), path.read_bytes()[:64], path.stat().st_size)
        stored = values()
        assert read.tensors == 2
        assert stored.tensors == {"a": ("float32", (2,)), "b": ("float16", (2,))}
        assert (stored.read("a", 0, 2), stored.read("b", 1, 1)) == (data[:8], data[10:12])
