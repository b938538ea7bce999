"""Tests of reading headers, good and broken, as the worker does it; here in this process."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.headers import safetensors_header
from gpumodels_tui.headers.header_worker import HeaderReader, Worker
from gpumodels_tui.headers.headers import FileHeader, Reply, Request, Wanted
from gpumodels_tui.headers.stored_tensors import StoredTensor, StoredTensors, packed_shapes
from model_files import BROKEN, framed, safetensors_bytes, write_model

READERS = {".safetensors": HeaderReader(safetensors_header.recognises, safetensors_header.read, safetensors_header.read_values)}


def write_square(path: Path, *firsts: float) -> Path:
    """A file of four-by-four tensors `w0`, `w1`, …, each counting up from its first value."""
    data = b"".join(struct.pack("<16f", *(first + number for number in range(16))) for first in firsts)
    header = {
        f"w{number}": {"dtype": "F32", "shape": [4, 4], "data_offsets": [64 * number, 64 * number + 64]}
        for number in range(len(firsts))
    }
    path.write_bytes(framed(json.dumps(header).encode()) + data)
    return path


def wanted_square(number: int, *firsts: float, shape: tuple[int, ...] = (4, 4)) -> Wanted:
    samples = (
        TensorSample(f"w{one}", "float32", shape, struct.pack("<16f", *(first + number for number in range(16))))
        for one, first in enumerate(firsts)
    )
    return Wanted(number, Fingerprint(tuple(samples), 0))


def test_a_files_table_of_tensors_is_parsed_once_for_its_header_and_for_all_models_that_may_be_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_square(tmp_path / "m.safetensors", 1.0, 50.0)
    parsed: list[int] = []
    read: list[str] = []
    entries, stored = safetensors_header._entries, StoredTensors.read

    def parsing(descriptor: int, length: int) -> Mapping[str, Any]:
        parsed.append(length)
        return entries(descriptor, length)

    def reading(self: StoredTensors, key: str, start: int, count: int) -> bytes:
        read.append(key)
        return stored(self, key, start, count)

    monkeypatch.setattr(safetensors_header, "_entries", parsing)
    monkeypatch.setattr(StoredTensors, "read", reading)
    told = (wanted_square(7, 1.0, 50.0), wanted_square(8, 1.0, 2.0), wanted_square(9, 1.0, shape=(9, 9)))
    worker = Worker(READERS)
    reply = worker.answer(Request(os.fsencode(path), ".safetensors", (7, 8, 9, 7), told))
    assert reply.header is not None
    assert reply.matches == (Match(2, 2), Match(1, 2), None, Match(2, 2))
    assert (len(parsed), sorted(read)) == (1, ["w0", "w1"])
    again = worker.answer(Request(os.fsencode(path), ".safetensors", (8, 7), is_read=False))
    assert (again.header, again.matches) == (None, (Match(1, 2), Match(2, 2)))


def test_what_there_is_no_time_for_is_left_out_of_the_reply_but_never_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpumodels_tui.headers.header_worker.COMPARING_SECONDS", -1.0)
    path = write_square(tmp_path / "m.safetensors", 1.0)
    told = (wanted_square(1, 1.0), wanted_square(2, 1.0))
    worker = Worker(READERS)
    assert worker.answer(Request(os.fsencode(path), ".safetensors", (1, 2), told)).matches == (Match(1, 1),)
    assert worker.answer(Request(os.fsencode(path), ".safetensors", (2, 1), is_read=False)).matches == (Match(1, 1),)


def test_values_that_stand_behind_the_files_end_agree_with_nothing_and_spoil_no_header(tmp_path: Path) -> None:
    path = write_square(tmp_path / "m.safetensors", 1.0)
    tensors = StoredTensors()
    with path.open("rb") as file:
        for key, offset in (("far", 2**63), ("end", path.stat().st_size)):
            tensors.add(key, StoredTensor("float32", (4, 4), file.fileno(), offset))
        assert (tensors.read("far", 0, 16), tensors.read("end", 0, 16)) == (b"", b"")


def reply_about(path: Path | str, suffix: str | None = ".safetensors") -> Reply:
    return Worker(READERS).answer(Request(os.fsencode(path), suffix))


def header_of(path: Path, suffix: str | None = ".safetensors") -> FileHeader:
    reply = reply_about(path, suffix)
    assert reply.header is not None, reply.reason
    return reply.header


def test_a_header_tells_metadata_tensors_and_bytes_by_dtype(tmp_path: Path) -> None:
    tensors = {"a": ("BF16", (4, 8)), "b": ("F8_E4M3", (100,)), "c": ("F32", ()), "d": ("BF16", (2,))}
    path = write_model(tmp_path / "m.safetensors", tensors, {"modelspec.title": "Flüx"})
    assert header_of(path) == FileHeader(
        "safetensors",
        {"modelspec.title": "Flüx"},
        4,
        {"float8_e4m3fn": 100, "bfloat16": 68, "float32": 4},
        packed_shapes([("bfloat16", (4, 8)), ("float8_e4m3fn", (100,)), ("float32", ()), ("bfloat16", (2,))]),
    )


def test_metadata_may_use_the_words_of_a_tensor(tmp_path: Path) -> None:
    said = {"shape": "square", "dtype": "F16", "data_offsets": "none"}
    header = header_of(write_model(tmp_path / "m.safetensors", {"a": ("BF16", (4, 8))}, said))
    assert (header.metadata, header.dtypes, header.tensors) == (said, {"bfloat16": 64}, 1)


def test_four_bit_tensors_take_half_a_byte_each(tmp_path: Path) -> None:
    assert header_of(write_model(tmp_path / "m.safetensors", {"a": ("F4", (3, 4))})).dtypes == {"float4_e2m1fn_x2": 6}


def test_a_file_without_metadata_or_tensors_is_a_file(tmp_path: Path) -> None:
    assert header_of(write_model(tmp_path / "m.safetensors", {})) == FileHeader("safetensors")


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_gives_a_reason(tmp_path: Path, kind: str) -> None:
    content, reason = BROKEN[kind]
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    reply = reply_about(path)
    assert reply.header is None
    assert reply.reason is not None
    assert reply.reason.startswith(reason)
    assert "\n" not in reply.reason


@pytest.mark.parametrize(("kind", "unfinished"), [("header cut off", True), ("zeros", True), ("length of 2^63", False)])
def test_what_may_still_be_written_is_told_from_what_is_broken(tmp_path: Path, kind: str, unfinished: bool) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(BROKEN[kind][0])
    assert reply_about(path).unfinished is unfinished


def test_what_is_no_regular_file_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo, directory, named_socket = tmp_path / "f.safetensors", tmp_path / "d.safetensors", tmp_path / "s"
    os.mkfifo(fifo)
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(named_socket))
        monkeypatch.setattr(os, "open", lambda *_: pytest.fail("opened"))
        for path in (fifo, directory, named_socket, Path("/dev/null")):
            assert not stat.S_ISREG(path.stat().st_mode)
            assert reply_about(path) == Reply(reason="not a regular file")


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m.safetensors")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert reply_about(path) == Reply(reason="permission denied")


def test_a_file_that_is_gone_says_so(tmp_path: Path) -> None:
    assert reply_about(tmp_path / "gone.safetensors") == Reply(reason="no such file or directory")


def test_a_file_name_that_is_no_unicode_is_read(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.safetensors"
    Path(os.fsdecode(path)).write_bytes(safetensors_bytes())
    assert reply_about(os.fsdecode(path)).header is not None


def test_a_blob_without_a_suffix_is_recognised_by_its_beginning(tmp_path: Path) -> None:
    blob = tmp_path / "0f3a"
    blob.write_bytes(safetensors_bytes(metadata={"title": "from the hub"}))
    assert header_of(blob, None).metadata == {"title": "from the hub"}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickled checkpoint", b"GGUF\x03\0\0\0\0\0\0\0{", bytes(100)])
def test_a_file_of_another_format_is_neither_read_nor_blamed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    assert reply_about(path, None) == Reply()


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
    assert header_of(path).rank == rank
