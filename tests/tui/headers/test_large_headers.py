"""Tests of safetensors headers that are too long to be decoded at once."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from gpumodels_tui.headers import large_headers, safetensors_header
from gpumodels_tui.headers.headers import FileHeader, UnreadableError
from gpumodels_tui.headers.stored_tensors import packed_shapes
from header_replies import header_of, reply_about
from model_files import framed, write_model

ENTRY = b'"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}'


def written(path: Path, header: bytes, data_bytes: int = 4) -> Path:
    with path.open("wb") as file:
        file.write(framed(header))
        file.truncate(8 + len(header) + data_bytes)
    return path


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every header is a long one."""
    monkeypatch.setattr(safetensors_header, "LARGE_HEADER_BYTES", 1)
    monkeypatch.setattr(large_headers, "PIECE_BYTES", 200)


TENSORS = {f"layers.{number}.weight": ("BF16" if number % 3 else "F8_E4M3", (number, 8)) for number in range(50)} | {
    "x.lora_down.weight": ("F16", (16, 4)),
    'quo"te},"b":{': ("F32", (2,)),
}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", " :\t")])
@pytest.mark.parametrize("with_metadata", ["first", "last", "not"])
def test_a_header_read_in_pieces_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separators: tuple[str, str], with_metadata: str
) -> None:
    path = write_model(tmp_path / "m.safetensors", TENSORS)
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header: dict[str, object] = json.loads(content[8 : 8 + length])
    said = {"workflow": json.dumps({"a},": "},{"}), "},": '},"k":{', "shape": "x", "ünïcode": "模型"}
    if with_metadata != "not":
        header = {"__metadata__": said, **header} if with_metadata == "first" else {**header, "__metadata__": said}
    path.write_bytes(framed(json.dumps(header, separators=separators).encode()) + content[8 + length :])
    at_once = header_of(path, ".safetensors")
    assert (at_once.tensors, at_once.rank) == (52, 16)
    monkeypatch.setattr(safetensors_header, "LARGE_HEADER_BYTES", 1)
    monkeypatch.setattr(large_headers, "PIECE_BYTES", 200)
    assert header_of(path, ".safetensors") == at_once


@pytest.mark.usefixtures("short_pieces")
def test_a_long_metadata_value_is_cut_before_it_becomes_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_headers, "MAX_METADATA_BYTES", 90_000)
    said = {"workflow": "😀ü\\" * 30_000, "list": "x", "title": "t"}
    header = json.dumps({"__metadata__": said}).encode()[:-1] + b"," + ENTRY + b"}"
    metadata = header_of(written(tmp_path / "m.safetensors", header), ".safetensors").metadata
    assert (metadata["title"], len(metadata["workflow"])) == ("t", 1_001)
    assert said["workflow"].startswith(metadata["workflow"][:-1])


def test_130_000_tensors_are_read(tmp_path: Path) -> None:
    lines = [
        f'"model.layers.{number >> 8}.mlp.experts.{number & 255}.down_proj.weight_of_an_expert":'
        f'{{"dtype":"BF16","shape":[2,2],"data_offsets":[{8 * number},{8 * number + 8}]}}'
        for number in range(130_000)
    ]
    header = ("{" + ",".join(lines) + "}").encode()
    assert len(header) > safetensors_header.LARGE_HEADER_BYTES
    path = written(tmp_path / "m.safetensors", header, 8 * 130_000)
    assert header_of(path, ".safetensors") == FileHeader(
        "safetensors", {}, 130_000, {"bfloat16": 1_040_000}, packed_shapes([("bfloat16", (2, 2))])
    )


def test_a_header_beyond_the_formats_limit_is_too_long_and_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_001) + b"{")
        file.truncate(100_000_010)
    reason = reply_about(path, ".safetensors").reason
    assert reason == "its header is too long: 100,000,001 bytes, where the format allows 100,000,000"


def test_a_header_for_which_there_is_not_enough_memory_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(safetensors_header, "LARGE_HEADER_BYTES", 1)
    monkeypatch.setattr(large_headers, "decoded_entries", without_memory)
    reply = reply_about(written(tmp_path / "m.safetensors", b"{" + ENTRY + b"}"), ".safetensors")
    assert (reply.reason, reply.unfinished) == (f"its header is too long ({len(ENTRY) + 2} B)", False)


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize(
    ("header", "data_bytes", "reason"),
    [
        (b"{" + b"[" * 5_000, 4, "its header is not JSON"),
        (b"{" + ENTRY + b",}", 4, "its header is not JSON"),
        (b"{" + ENTRY + b"}x", 4, "its header is not JSON"),
        (b'{"a":{"dtype":7}}', 0, "its header is not JSON"),
        (b'{"__metadata__":7,' + ENTRY + b"}", 4, "its header is not JSON"),
        (b"{" + ENTRY + b"}", 3, "truncated, or damaged: its tensors don't cover the file exactly"),
        (b"{" + ENTRY + b',"b":' + ENTRY[4:] + b"}", 4, "truncated, or damaged: its tensors don't cover the file exactly"),
    ],
)
def test_a_long_header_that_is_none_gives_a_reason(tmp_path: Path, header: bytes, data_bytes: int, reason: str) -> None:
    assert reply_about(written(tmp_path / "m.safetensors", header, data_bytes), ".safetensors").reason == reason


@pytest.mark.usefixtures("short_pieces")
def test_braces_without_end_cost_a_bounded_number_of_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_headers, "MAX_TRIES", 20)
    header = b'{"__metadata__":{"w":"' + b"}" * 10_000 + b'"},' + ENTRY + b"}"
    assert header_of(written(tmp_path / "m.safetensors", header), ".safetensors").tensors == 1


@pytest.mark.usefixtures("short_pieces")
def test_a_file_of_too_many_tensors_is_known_but_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "m.safetensors", TENSORS)
    beginning, size_bytes = path.read_bytes()[:64], path.stat().st_size
    with path.open("rb") as file:
        _, values = safetensors_header.read_values(str(path), file.fileno(), beginning, size_bytes)
        assert len(values().tensors) == len(TENSORS)
        monkeypatch.setattr(safetensors_header, "MAX_COMPARED_TENSORS", 10)
        with pytest.raises(UnreadableError, match="too many tensors"):
            values()
