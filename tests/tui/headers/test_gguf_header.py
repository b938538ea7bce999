"""Tests of GGUF headers: written here by hand, and by GGUF's own package."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from gpumodels_tui.headers import gguf_header
from header_replies import header_of, reply_about

TEXT, ARRAY = 8, 9


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def texts(*values: str) -> bytes:
    return struct.pack("<IQ", TEXT, len(values)) + b"".join(map(text, values))


def gguf_with_data(tensors: Sequence[tuple[str, int, tuple[int, ...], int]], alignment: int = 32) -> bytes:
    """A complete file; tensors as (name, type, dimensions, bytes), one behind the other."""
    listed, offset = b"", 0
    for name, kind, shape, size in tensors:
        listed += text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, offset)
        offset += -(-size // alignment) * alignment
    pairs = pair("general.alignment", 4, struct.pack("<I", alignment))
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 1) + pairs + listed
    return header + bytes(-len(header) % alignment + offset)


def gguf_bytes(pairs: Sequence[bytes] = (), tensors: Mapping[str, tuple[int, tuple[int, ...]]] | None = None) -> bytes:
    """A file of version 3 without data; tensors by name as (type, dimensions as they stand in the file)."""
    listed = b"".join(
        text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, 0)
        for name, (kind, shape) in (tensors or {}).items()
    )
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors or {}), len(pairs)) + b"".join(pairs) + listed


def test_a_gguf_file_tells_its_metadata_without_vocabularies(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    pairs = [
        pair("general.architecture", TEXT, text("llama")),
        pair("general.name", TEXT, text("Flüx")),
        pair("general.file_type", 4, struct.pack("<I", 15)),
        pair("llama.rope.freq_base", 6, struct.pack("<f", 0.5)),
        pair("general.is_merged", 7, b"\1"),
        pair("general.tags", ARRAY, texts("chat", "code")),
        pair("tokenizer.ggml.tokens", ARRAY, texts(*map(str, range(1000)))),
        pair("tokenizer.ggml.scores", ARRAY, struct.pack("<IQ", 6, 3) + bytes(12)),
    ]
    path.write_bytes(gguf_bytes(pairs, {"a": (12, (256, 4)), "b": (0, (8,)), "c": (1, (4, 2))}))
    header = header_of(path, ".gguf")
    assert header.metadata == {
        "general.architecture": "llama",
        "general.name": "Flüx",
        "general.file_type": "15",
        "llama.rope.freq_base": "0.5",
        "general.is_merged": "true",
        "general.tags": "chat, code",
    }
    assert (header.format, header.tensors) == ("gguf", 3)
    assert header.dtypes == {"Q4_K": 4 * 144, "float32": 32, "float16": 16}
    assert msgspec.msgpack.decode(header.shapes) == [[2, 4], [4, 144], [8]]


def test_a_gguf_blob_is_recognised_by_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "0f3a").write_bytes(gguf_bytes())
    assert header_of(tmp_path / "0f3a", None).format == "gguf"


def test_what_the_gguf_package_writes_is_read(tmp_path: Path) -> None:
    gguf, numpy = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_license("mit")
    writer.add_token_list(["a"] * 40)
    values = numpy.arange(64, dtype=numpy.float32).reshape(4, 16)
    writer.add_tensor("blk.0.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = header_of(path, ".gguf")
    assert (header.metadata["general.name"], header.metadata["general.license"]) == ("Tiny", "mit")
    assert msgspec.msgpack.decode(header.shapes) == [[4, 16]]
    with path.open("rb") as file:
        stored = gguf_header.read_values(str(path), file.fileno(), path.read_bytes()[:64], path.stat().st_size)[1]()
        assert stored.read("blk.0.weight", 16, 16) == values[1].tobytes()


@pytest.mark.parametrize("alignment", [32, 4096])
def test_the_size_of_an_unknown_type_is_the_offsets(tmp_path: Path, alignment: int) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(
        gguf_with_data([("a", 999, (256, 8192), 8192 * 100), ("b", 0, (64,), 256), ("c", 999, (256, 64), 6400)], alignment)
    )
    assert header_of(path, ".gguf").dtypes == {"ggml type 999": 8192 * 100 + (6400 if alignment == 32 else 8192), "float32": 256}


def test_types_that_the_gguf_package_does_not_know_have_their_names_and_sizes(tmp_path: Path) -> None:
    """Q2_0 is 42 since llama.cpp b9916, behind gguf 0.19; IQ4_KS is 144 in ik_llama.cpp, with a scale before each row."""
    path = tmp_path / "m.gguf"
    row = 4 + 256 // 256 * 136
    path.write_bytes(gguf_with_data([("a", 42, (256, 64), 64 * 72), ("b", 144, (256, 4096), 4096 * row), ("c", 0, (8,), 32)]))
    header = header_of(path, ".gguf")
    assert header.dtypes == {"IQ4_KS": 4096 * row, "Q2_0": 64 * 72, "float32": 32}
    assert msgspec.msgpack.decode(header.shapes) == [[8], [64, 72], [4096, row]]


def test_a_number_that_means_something_else_in_a_fork_is_measured_by_the_offsets(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    of_prism, of_turbo = ("a", 42, (256, 64), 64 * 68), ("b", 41, (256, 64), 64 * 128)
    path.write_bytes(gguf_with_data([of_prism, of_turbo, ("c", 0, (8,), 32)]))
    assert header_of(path, ".gguf").dtypes == {"ggml type 41": 64 * 128, "Q2_0": 64 * 68, "float32": 32}


def test_arrays_of_arrays_are_read_over(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    numbers = struct.pack("<IQ", 4, 2) + bytes(8)
    nested = struct.pack("<IQ", ARRAY, 2) + texts("a", "b") + struct.pack("<IQ", ARRAY, 1) + numbers
    path.write_bytes(gguf_bytes([pair("some.table", ARRAY, nested), pair("general.name", TEXT, text("x"))], {"a": (0, (8,))}))
    header = header_of(path, ".gguf")
    assert (header.metadata, header.dtypes) == ({"general.name": "x"}, {"float32": 32})


HOSTILE = {
    "empty": (b"", "empty file"),
    "cut": (gguf_bytes([pair("k", TEXT, text("v"))])[:-3], "truncated"),
    "length of 2^63": (gguf_bytes([struct.pack("<Q", 2**63)]), "truncated"),
    "a key of 2^64-1": (gguf_bytes([struct.pack("<Q", 2**64 - 1) + b"k"]), "truncated"),
    "2^63 keys": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "not a GGUF file, or damaged: 9223372036854775808 metadata keys"),
    "2^63 tensors": (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "not a GGUF file, or damaged"),
    "array of 2^62": (gguf_bytes([pair("k", ARRAY, struct.pack("<IQ", 0, 2**62))]), "truncated"),
    "vocabulary of 2^62": (gguf_bytes([pair("k", ARRAY, struct.pack("<IQ", TEXT, 2**62))]), "not a GGUF file, or damaged"),
    "vocabulary past the end": (gguf_bytes([pair("k", ARRAY, struct.pack("<IQQ", TEXT, 99, 2**64 - 1))]), "truncated"),
    "nested arrays past the end": (gguf_bytes([pair("k", ARRAY, struct.pack("<IQ", ARRAY, 3))]), "truncated"),
    "deep arrays": (gguf_bytes([pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1) * 100_000)]), "not a GGUF file, or damaged: too m"),
    "2^62 arrays": (gguf_bytes([pair("k", ARRAY, struct.pack("<IQ", ARRAY, 2**62))]), "not a GGUF file, or damaged: too many"),
    "array of no type": (gguf_bytes([pair("k", ARRAY, struct.pack("<IQ", 77, 1))]), "not a GGUF file, or damaged: an array of"),
    "unknown value": (gguf_bytes([pair("k", 77, b"")]), "not a GGUF file, or damaged: a value of type 77"),
    "dimensions": (gguf_bytes((), {"a": (0, (1,) * 9)}), "not a GGUF file, or damaged: a tensor of 9 dimensions"),
    "version 1": (b"GGUF\1\0\0\0" + bytes(40), "GGUF version 1 is not supported"),
    "big-endian": (b"GGUF\0\0\0\3" + bytes(40), "a big-endian GGUF file"),
    "garbage": (b"no model at all, whatever its name says", "not a GGUF file, or damaged"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_broken_gguf_file_gives_a_reason(tmp_path: Path, kind: str) -> None:
    content, reason = HOSTILE[kind]
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    reply = reply_about(path, ".gguf")
    assert reply.header is None
    assert reply.reason is not None
    assert reply.reason.startswith(reason)


def test_invalid_unicode_in_a_gguf_file_is_shown_escaped(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes([pair("general.name", TEXT, text(b"caf\xe9"))]))
    assert header_of(path, ".gguf").metadata == {"general.name": "caf\\xe9"}


def test_a_tensor_of_an_unknown_type_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes((), {"a": (999, (32,))}))
    assert header_of(path, ".gguf").dtypes == {"ggml type 999": 0}
