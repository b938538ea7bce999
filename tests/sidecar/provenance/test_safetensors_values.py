"""What is read of safetensors files: values where they stand, in steps, and nothing of what is no such file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gpumodels.provenance import safetensors_values
from gpumodels.provenance.safetensors_values import ENTRIES_PER_STEP, READS_PER_STEP, SafetensorsValues
from model_files import BROKEN, framed, safetensors_bytes, write_model
from work import counted


def no_pause() -> None:
    """Of what nothing is to be said here."""


def a_file(path: Path, tensors: Mapping[str, tuple[str, int, bytes]]) -> Path:
    """Tensors by key as (dtype code, extent, values)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for key, (dtype, extent, values) in tensors.items():
        header[key] = {"dtype": dtype, "shape": [extent], "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    path.write_bytes(framed(json.dumps(header).encode()) + data)
    return path


def open_files(directory: Path) -> int:
    """How many descriptors this process has of files in it."""
    return len([name for name in os.listdir("/proc/self/fd") if is_in(Path("/proc/self/fd", name), directory)])


def is_in(descriptor: Path, directory: Path) -> bool:
    try:
        return descriptor.readlink().is_relative_to(directory)
    except OSError:  # the listing's own
        return False


def test_values_are_read_from_where_they_stand(tmp_path: Path) -> None:
    path = a_file(tmp_path / "a.safetensors", {"one": ("BF16", 8, bytes(range(16))), "two": ("U8", 4, b"wxyz")})
    values = SafetensorsValues([str(path)], no_pause)
    assert values.tensors == {"one": ("bfloat16", (8,)), "two": ("uint8", (4,))}
    assert values.read("one", 0, 2) == bytes(range(4))
    assert values.read("one", 6, 16) == bytes(range(12, 16))  # as many as there are
    assert values.read("two", 1, 2) == b"xy"
    assert values.read("two", 4, 1) == b""
    values.close()


def test_of_a_dtype_that_is_not_compared_the_tensor_is_known_and_no_value(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.safetensors", {"ids": ("I64", (16,)), "packed": ("F4", (16,))})
    values = SafetensorsValues([str(path)], no_pause)
    assert values.tensors == {"ids": ("I64", (16,)), "packed": ("F4", (16,))}
    assert values.read("ids", 0, 16) == values.read("packed", 0, 16) == b""


def test_shards_are_one_file(tmp_path: Path) -> None:
    paths = [a_file(tmp_path / f"{name}.safetensors", {name: ("U8", 1, name.encode())}) for name in "ab"]
    values = SafetensorsValues(list(map(str, paths)), no_pause)
    assert [values.read(name, 0, 1) for name in "ab"] == [b"a", b"b"]
    assert len(values.stamps) == 2
    assert all(stamp is not None and stamp.inode == path.stat().st_ino for stamp, path in zip(values.stamps, paths, strict=True))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are listed on Linux alone")  # noqa: PTH112
def test_no_file_stays_open_but_while_it_is_read(tmp_path: Path) -> None:
    path = a_file(tmp_path / "a.safetensors", {"one": ("U8", 1, b"a")})
    values = SafetensorsValues([str(path)], no_pause)
    assert open_files(tmp_path) == 0
    values.read("one", 0, 1)
    assert open_files(tmp_path) == 1
    values.close()
    assert open_files(tmp_path) == 0
    path.write_bytes(BROKEN["garbage"][0])
    with pytest.raises(ValueError, match="safetensors"):
        SafetensorsValues([str(path)], no_pause)
    assert open_files(tmp_path) == 0


def test_what_was_read_is_kept_and_what_was_not_is_read_from_the_file_again(tmp_path: Path) -> None:
    path = a_file(tmp_path / "a.safetensors", {"one": ("U8", 2, b"ab")})
    values = SafetensorsValues([str(path)], no_pause)
    assert values.read("one", 0, 1) == b"a"
    values.close()
    path.unlink()
    assert values.read("one", 0, 1) == b"a"
    with pytest.raises(FileNotFoundError):
        values.read("one", 1, 1)


def test_what_is_kept_of_what_was_read_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_values, "MAX_KEPT_READS", 1)
    path = a_file(tmp_path / "a.safetensors", {"one": ("U8", 2, b"ab")})
    values = SafetensorsValues([str(path)], no_pause)
    with counted() as work:
        for _ in range(3):
            assert (values.read("one", 0, 1), values.read("one", 1, 1)) == (b"a", b"b")
    assert work.bytes_read == 1 + 3
    values.close()


READ_OTHERWISE = {"metadata of numbers", "unknown dtype"}
"""What the format forbids, and what comparing can do with: it asks only where values stand."""


@pytest.mark.parametrize("kind", sorted(BROKEN.keys() - READ_OTHERWISE))
def test_what_is_no_safetensors_file_is_refused_by_one_kind_of_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(BROKEN[kind][0])
    with pytest.raises(ValueError):  # noqa: PT011
        SafetensorsValues([str(path)], no_pause)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 9_000]},
        {"dtype": "F32", "shape": [4], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [4], "data_offsets": [-8, 8]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0]},
        {"dtype": "F32", "shape": 4, "data_offsets": [0, 16]},
        {"dtype": "F32", "data_offsets": [0, 16]},
        {"shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 16]},
    ],
    ids=json.dumps,
)
def test_an_entry_that_says_something_impossible_is_refused_by_the_same(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(framed(json.dumps({"weight": entry}).encode(), 16))
    with pytest.raises(ValueError):  # noqa: PT011
        SafetensorsValues([str(path)], no_pause)


def test_a_shape_that_is_larger_than_its_data_is_not_read_past_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = {
        "short": {"dtype": "U8", "shape": [1000], "data_offsets": [0, 4]},
        "next": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]},
    }
    path.write_bytes(framed(json.dumps(header).encode()) + b"abcdefgh")
    values = SafetensorsValues([str(path)], no_pause)
    assert values.read("short", 0, 4) == b"abcd"
    assert values.read("short", 0, 5) == values.read("short", 900, 4) == b""
    values.close()


def test_a_header_with_blanks_wherever_json_allows_them_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    header = ' {\n"w" :\t{ "dtype": "U8", "shape": [ 1 ], "data_offsets": [0, 1] } , "__metadata__": {} }   '
    path.write_bytes(framed(header.encode()) + b"a")
    values = SafetensorsValues([str(path)], no_pause)
    assert values.read("w", 0, 1) == b"a"
    values.close()


def test_it_pauses_while_headers_and_values_are_read(tmp_path: Path) -> None:
    pauses: list[None] = []
    keys = [f"{number}" for number in range(5 * ENTRIES_PER_STEP)]
    path = write_model(tmp_path / "a.safetensors", dict.fromkeys(keys, ("U8", (1,))))
    values = SafetensorsValues([str(path)], lambda: pauses.append(None))
    assert len(pauses) == 5
    pauses.clear()
    for key in keys[: 3 * READS_PER_STEP]:
        values.read(key, 0, 1)
    assert len(pauses) == 3
    values.close()


def test_of_a_large_file_the_header_is_read_and_what_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_bytes({"w": ("F32", (1000, 1000))}))
    with counted() as work:
        values = SafetensorsValues([str(path)], no_pause)
        values.read("w", 5000, 16)
        values.close()
    assert work.bytes_read < 1000
