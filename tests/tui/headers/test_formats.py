"""Tests of formats beside safetensors: GGUF (written here by hand, and by its own package), pickles, configs, shard indexes."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from gpumodels_tui.headers import config_header, gguf_header, pickled_header, safetensors_header, shard_index
from gpumodels_tui.headers.formats import READERS, suffix_of
from gpumodels_tui.headers.header_worker import HeaderReader, Worker
from gpumodels_tui.headers.headers import FileHeader, Reply, Request

MODULES = {
    ".safetensors": safetensors_header,
    ".gguf": gguf_header,
    ".ckpt": pickled_header,
    "config.json": config_header,
    ".safetensors.index.json": shard_index,
}
READING = {
    suffix: HeaderReader(module.recognises, module.read, getattr(module, "read_values", None))
    for suffix, module in MODULES.items()
}

TEXT, ARRAY = 8, 9


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def texts(*values: str) -> bytes:
    return struct.pack("<IQ", TEXT, len(values)) + b"".join(map(text, values))


def gguf_bytes(pairs: Sequence[bytes] = (), tensors: Mapping[str, tuple[int, tuple[int, ...]]] | None = None) -> bytes:
    """A file of version 3 without data; tensors by name as (type, dimensions as they stand in the file)."""
    listed = b"".join(
        text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, 0)
        for name, (kind, shape) in (tensors or {}).items()
    )
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors or {}), len(pairs)) + b"".join(pairs) + listed


def reply_about(path: Path, suffix: str | None) -> Reply:
    return Worker(READING).answer(Request(os.fsencode(path), suffix))


def header_of(path: Path, suffix: str | None) -> FileHeader:
    reply = reply_about(path, suffix)
    assert reply.header is not None, reply.reason
    return reply.header


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("/m/a.safetensors", ".safetensors"),
        ("/m/A.SafeTensors", ".safetensors"),
        ("/m/ae.sft", ".sft"),
        ("/m/q4.gguf", ".gguf"),
        ("/m/old.ckpt", ".ckpt"),
        ("/m/config.json", "config.json"),
        ("/m/adapter_config.json", "adapter_config.json"),
        ("/m/model.safetensors.index.json", ".safetensors.index.json"),
        ("/m/tokenizer.json", None),
        ("/m/a.safetensors.incomplete", None),
        ("/m/.safetensors", None),
        ("/m.pt/readme", None),
        ("/m/a.txt", None),
    ],
)
def test_a_name_tells_which_reader(name: str, suffix: str | None) -> None:
    assert suffix_of(name) == suffix
    assert suffix is None or suffix in READERS


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


def test_types_and_sizes_are_those_of_the_gguf_package() -> None:
    gguf = pytest.importorskip("gguf")
    plain = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
    for kind, (block, size) in gguf.GGML_QUANT_SIZES.items():
        name = plain.get(kind.name, kind.name.replace("I", "int") if kind.name in ("I8", "I16", "I32", "I64") else kind.name)
        assert gguf_header.TENSOR_TYPES.get(kind.value, (name, block, size)) == (name, block, size)


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
    "nested arrays": (gguf_bytes([pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1))]), "an array of type 9"),
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


class Harm:
    """What a pickle may do to whoever opens it."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.abort, ())


def test_a_pickle_is_listed_and_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    path.write_bytes(pickle.dumps(Harm()))
    assert header_of(path, ".ckpt") == FileHeader("pickle")
    assert header_of(path, None) == FileHeader("pickle")


def test_what_torch_saves_is_recognised_without_its_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Harm()))
    assert header_of(tmp_path / "pytorch_model.bin", None) == FileHeader("pickle")


def test_a_config_tells_its_top_level(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": 384,
        "tie": True,
        "none": None,
        "id2label": {"0": "x"},
        "ids": [1, 2],
    }
    path.write_text(json.dumps(config))
    header = header_of(path, "config.json")
    assert header.format == "config"
    assert header.metadata == {
        "config.model_type": "bert",
        "config.architectures": "BertModel",
        "config.hidden_size": "384",
        "config.tie": "true",
    }


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"a": "\xff"}', b"[" * 100_000, b'"x"', b" " * 3_000_000])
def test_a_config_that_is_none_gives_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert reply_about(path, "config.json").reason


def test_an_index_names_its_shards(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    weight_map = {"a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors", "d": "../../etc/x", "e": 7}
    path.write_text(json.dumps({"weight_map": weight_map}))
    assert header_of(path, ".safetensors.index.json") == FileHeader(
        "index", tensors=5, shards=("m-1.safetensors", "m-2.safetensors")
    )
    path.write_text("{}")
    assert reply_about(path, ".safetensors.index.json").reason == "it has no weight_map"
