"""Tests of single values read out of model files, and of the summaries of their shapes and dtypes."""

from __future__ import annotations

from pathlib import Path

from gpumodels_tui.headers.stored_tensors import (
    MAX_DIMENSIONS,
    MAX_SHAPES,
    StoredTensor,
    StoredTensors,
    dtype_bytes,
    packed_shapes,
    unpacked_shapes,
)


def test_values_that_stand_behind_the_files_end_can_not_be_had(tmp_path: Path) -> None:
    path = tmp_path / "values"
    path.write_bytes(bytes(64))
    tensors = StoredTensors()
    with path.open("rb") as file:
        for key, offset in (("far", 2**63), ("end", path.stat().st_size)):
            tensors.add(key, StoredTensor("float32", (4, 4), file.fileno(), offset))
        assert (tensors.read("far", 0, 16), tensors.read("end", 0, 16)) == (b"", b"")


def test_single_elements_are_read_where_their_tensor_stands(tmp_path: Path) -> None:
    (tmp_path / "values").write_bytes(bytes(range(32)))
    tensors = StoredTensors()
    with (tmp_path / "values").open("rb") as file:
        tensors.add("half", StoredTensor("float16", (2, 4), file.fileno(), 8))
        assert tensors.read("half", 0, 2) == bytes([8, 9, 10, 11])
        assert tensors.read("half", 6, 2) == bytes([20, 21, 22, 23])
        assert tensors.read("half", 7, 2) == b""  # the second would be another tensor's


def test_values_of_a_dtype_that_nobody_can_compare_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "values").write_bytes(bytes(32))
    tensors = StoredTensors()
    with (tmp_path / "values").open("rb") as file:
        tensors.add("packed", StoredTensor("Q4_K", (256,), file.fileno(), 0))
        assert tensors.read("packed", 0, 4) == b""


def test_the_tensors_of_several_shards_are_read_each_from_its_own_file(tmp_path: Path) -> None:
    together = StoredTensors()
    files = []
    for number, key in enumerate("ab"):
        (tmp_path / key).write_bytes(bytes([number] * 4))
        files.append((tmp_path / key).open("rb"))
        shard = StoredTensors()
        shard.add(key, StoredTensor("float32", (1,), files[-1].fileno(), 0))
        together.add_all(shard)
    assert together.tensors == {"a": ("float32", (1,)), "b": ("float32", (1,))}
    assert [together.read(key, 0, 1) for key in "ab"] == [bytes(4), b"\1\1\1\1"]
    for file in files:
        file.close()


def test_the_distinct_shapes_of_what_can_be_compared_come_out_as_they_went_in() -> None:
    tensors = [("float32", (8,)), ("bfloat16", (4, 4)), ("float16", (8,)), ("Q4_K", (256, 256)), ("float32", ())]
    assert unpacked_shapes(packed_shapes(tensors)) == {(8,), (4, 4), ()}
    assert packed_shapes(tensors) == packed_shapes(reversed(tensors))


def test_of_a_file_with_nothing_to_compare_or_too_many_shapes_nothing_is_said() -> None:
    assert packed_shapes([]) == packed_shapes([("Q4_K", (256,))]) == b""
    assert packed_shapes([("float32", (1,) * (MAX_DIMENSIONS + 1))]) == b""
    assert packed_shapes([("float32", (number,)) for number in range(MAX_SHAPES + 1)]) == b""
    assert len(unpacked_shapes(packed_shapes([("float32", (number,)) for number in range(MAX_SHAPES)]))) == MAX_SHAPES
    assert unpacked_shapes(b"") == frozenset()


def test_bytes_are_summed_by_dtype_and_most_come_first() -> None:
    sums = dtype_bytes([("float32", 4), ("bfloat16", 10), ("float32", 8)])
    assert list(sums.items()) == [("float32", 12), ("bfloat16", 10)]
