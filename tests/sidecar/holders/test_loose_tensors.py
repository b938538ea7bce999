"""Tensors that no model holds: found in this process by their classes, counted once for each storage, and not held."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.holders.loose_tensors import AUTOGRAD, GRADIENT, MAPPED, PARAMETER, PLAIN, LooseTensor, LooseTensors
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.failures import Failures
from gpumodels.tensors.tensor_storages import TensorReader
from modules import a_fake

pytestmark = pytest.mark.slow
"""Each question goes through all objects of the process that runs the tests."""


@pytest.fixture
def reader() -> Iterator[TensorReader]:
    tracker = OriginTracker(torch)
    yield TensorReader(torch, tracker, Failures())
    tracker.close()


def key_of(tensor: torch.Tensor) -> tuple[str, int]:
    return str(tensor.device), tensor.untyped_storage()._cdata


def searched(reader: TensorReader, known: Collection[tuple[str, int]] = ()) -> LooseTensors:
    search = LooseTensors(reader, lambda key: key in known, lambda: None)
    search.run()
    assert reader.failures.count == 0
    return search


def found(reader: TensorReader, tensor: torch.Tensor) -> LooseTensor | None:
    return searched(reader).found.get(key_of(tensor))


def test_a_tensor_is_found_with_what_it_is(reader: TensorReader) -> None:
    tensor = torch.zeros(12, 34, dtype=torch.float16)
    one = found(reader, tensor)
    assert one is not None
    assert (one.dtype, one.shape, one.size_bytes, one.kind) == ("float16", (12, 34), 12 * 34 * 2, PLAIN)


def test_views_of_one_storage_count_once_with_the_largest(reader: TensorReader) -> None:
    base = torch.zeros(64, 8)
    views = [base[:3], base[5], base.flatten()]
    search = searched(reader)
    one = search.found[key_of(base)]
    assert (one.size_bytes, one.elements) == (64 * 8 * 4, 64 * 8)
    assert all(key_of(view) == key_of(base) for view in views)


def test_a_small_view_keeps_the_entire_storage(reader: TensorReader) -> None:
    view = torch.empty(0).set_(torch.zeros(1000, 1000).untyped_storage(), 0, (2, 1000), (1000, 1))
    one = found(reader, view)
    assert one is not None
    assert (one.size_bytes, one.shape) == (4_000_000, (2, 1000))


def test_what_is_known_is_left_out(reader: TensorReader) -> None:
    tensors = [torch.zeros(5), torch.zeros(6)]
    search = searched(reader, {key_of(tensors[0])})
    assert key_of(tensors[0]) not in search.found
    assert key_of(tensors[1]) in search.found


def test_kinds_are_told_as_far_as_they_are_certain(reader: TensorReader) -> None:
    leaf = torch.zeros(7, requires_grad=True)
    result = leaf * 2
    torch.autograd.backward(result.sum())  # nobody has asked for the gradient: it is no object of Python's yet
    parameter = nn.Parameter(torch.zeros(8))
    search = searched(reader)
    assert search.found[key_of(leaf)].kind == PLAIN
    assert search.found[key_of(result)].kind == AUTOGRAD
    assert search.found[key_of(parameter)].kind == PARAMETER
    assert leaf.grad is not None
    assert search.found[key_of(leaf.grad)].kind == GRADIENT
    assert search.found[key_of(leaf.grad)].shape == (7,)


def test_a_mapped_file_takes_no_memory_by_itself(reader: TensorReader, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"w": torch.zeros(600, 600)}, path)
    tensor = torch.load(path, mmap=True)["w"]
    reader._origin_tracker.read_kernel_mappings()
    one = found(reader, tensor)
    assert one is not None
    assert one.kind == MAPPED


def test_fake_and_meta_tensors_are_no_memory(reader: TensorReader) -> None:
    imagined = [a_fake((100, 100), "cuda:0"), torch.zeros(10, device="meta")]
    assert not [key for key in searched(reader).found if key[0] != "cpu"]
    assert imagined


def test_sparse_tensors_count_with_their_parts(reader: TensorReader) -> None:
    before = sum(one.size_bytes for one in searched(reader).found.values())
    sparse = torch.sparse_coo_tensor(torch.tensor([[0, 1]]), torch.ones(2, 500), (4, 500), check_invariants=True)
    after = sum(one.size_bytes for one in searched(reader).found.values())
    assert after - before >= 2 * 500 * 4
    assert sparse.is_sparse


class Wrapped(torch.Tensor):
    """A subclass that must not be run."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("the host's code was run")


def test_no_code_of_a_subclass_is_run(reader: TensorReader) -> None:
    with torch._C.DisableTorchFunctionSubclass():
        tensor = torch.zeros(11, 13).as_subclass(Wrapped)
        key = key_of(tensor)
    assert searched(reader).found[key].size_bytes == 11 * 13 * 4


def test_nothing_is_held_and_versions_stay(reader: TensorReader) -> None:
    tensor = torch.zeros(9)
    storage = weakref.ref(tensor.untyped_storage())
    version = tensor._version
    search = searched(reader)
    assert search.tensor_of(key_of(tensor)) is tensor
    assert tensor._version == version
    del tensor
    assert storage() is None


def test_a_tensor_that_is_gone_is_not_found_again(reader: TensorReader) -> None:
    search = searched(reader)
    assert search.tensor_of(("cpu", 1)) is None


def test_it_says_for_how_long_it_held_the_interpreter(reader: TensorReader) -> None:
    tensor = torch.zeros(1)
    search = searched(reader)
    assert search.seen > 0
    assert tensor.numel() == 1
    assert search.is_complete
    assert 0 < search.longest_hold_seconds < 5
