"""Samples of host memory: bit for bit what stands there, and none where there is nothing to be read."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.provenance import host_samples
from gpumodels.provenance.host_samples import RawSample, TensorSampler
from gpumodels_shared.fingerprint import VALUES
from gpumodels_shared.floats import ITEM_BYTES

FROM_ASIDE = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from aside on Linux alone")


@pytest.fixture
def sampler() -> Iterator[TensorSampler]:
    one = TensorSampler(torch)
    yield one
    one.close()


def bytes_of(tensor: torch.Tensor) -> bytes:
    """Its first values."""
    return ctypes.string_at(tensor.data_ptr(), VALUES * tensor.element_size())


class Blocks(torch.Tensor):
    """To be named as a class is that holds a file's blocks; its own attributes tell of something else."""

    @property
    def shape(self) -> Any:  # type: ignore[override]
        raise AssertionError("foreign code ran")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        raise AssertionError(f"foreign code ran: {function}")


@FROM_ASIDE
@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_the_first_values_of_every_dtype_that_is_compared_are_had_from_within_and_from_aside(
    sampler: TensorSampler, dtype: str
) -> None:
    tensor = (torch.arange(64).reshape(4, 16) + 1).to(getattr(torch, dtype))
    expected = RawSample(dtype, (4, 16), bytes_of(tensor))
    assert sampler.take(tensor) == sampler.take_from_other_thread(tensor) == expected
    assert sampler.take(nn.Parameter(tensor, requires_grad=False)) == expected


def test_of_a_view_the_values_are_taken_where_it_begins(sampler: TensorSampler) -> None:
    table = torch.arange(256.0).reshape(8, 32)
    taken = sampler.take(table[3:])
    assert taken is not None
    assert torch.frombuffer(bytearray(taken.data), dtype=torch.float32).tolist() == [96.0 + number for number in range(VALUES)]
    assert sampler.address_of(table[3:]) == table.data_ptr() + 96 * 4


def shrunk() -> torch.Tensor:
    tensor = torch.zeros(64)
    tensor.untyped_storage().resize_(8)
    return tensor


UNFIT: dict[str, Callable[[], Any]] = {
    "few elements": lambda: torch.zeros(VALUES - 1),
    "a dtype that isn't compared": lambda: torch.zeros(64, dtype=torch.int64),
    "not in a row": lambda: torch.zeros(64, 64).t(),
    "on meta": lambda: torch.zeros(64, device="meta"),
    "sparse": lambda: torch.eye(64).to_sparse(),
    "a storage shrunk to nothing": shrunk,
    "somebody's own tensor": lambda: torch.zeros(64).as_subclass(type("Own", (torch.Tensor,), {})),
    "no tensor": lambda: "text",
}


@pytest.mark.parametrize("make", UNFIT.values(), ids=UNFIT.keys())
def test_there_is_no_sample_of(sampler: TensorSampler, make: Callable[[], Any]) -> None:
    tensor = make()
    assert sampler.take(tensor) is sampler.take_from_other_thread(tensor) is None
    assert sampler.address_of(tensor) == 0


@pytest.mark.parametrize("name", sorted(host_samples.RAW_BLOCKS))
def test_blocks_of_a_file_are_taken_as_they_lie_there_whatever_their_class_says(sampler: TensorSampler, name: str) -> None:
    raw = torch.arange(64, dtype=torch.uint8)
    blocks: Any = raw.as_subclass(type(name, (Blocks,), {}))
    assert sampler.take(blocks) == RawSample("uint8", (64,), bytes_of(raw))


@FROM_ASIDE
def test_what_was_written_meanwhile_is_read_again_at_the_address(sampler: TensorSampler) -> None:
    tensor = torch.zeros(64)
    address = sampler.address_of(tensor)
    assert sampler.read_memory(address, 8) == bytes(8)
    tensor.fill_(1.0)
    assert sampler.read_memory(address, 8) == bytes_of(tensor)[:8]


@FROM_ASIDE
def test_an_address_where_nothing_is_gives_nothing_and_no_error(sampler: TensorSampler) -> None:
    assert sampler.read_memory(8, 64) == b""
    assert sampler.read_memory(0, 64) == b""


def test_once_closed_nothing_is_read_from_aside_and_the_owner_still_can(sampler: TensorSampler) -> None:
    tensor = torch.arange(64.0)
    sampler.close()
    sampler.close()
    assert sampler.take_from_other_thread(tensor) is None
    assert sampler.read_memory(tensor.data_ptr(), 64) == b""
    assert sampler.take(tensor) == RawSample("float32", (64,), bytes_of(tensor))


def test_where_the_processs_memory_can_not_be_opened_only_the_owner_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_samples, "OWN_MEMORY", "/nowhere/at/all")
    one, tensor = TensorSampler(torch), torch.arange(64.0)
    assert one.take_from_other_thread(tensor) is None
    assert one.take(tensor) == RawSample("float32", (64,), bytes_of(tensor))
    one.close()
