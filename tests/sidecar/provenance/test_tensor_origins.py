from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.origin import NO_OBSERVED_FILE, READ, Origin
from gpumodels.provenance.tensor_origins import TensorOrigins

HERE = Origin("/m/a.safetensors", READ)
SAMPLES = [RawSample("float32", (64,), bytes([number]) * 64) for number in range(3)]


@pytest.fixture
def origins() -> TensorOrigins:
    return TensorOrigins(torch)


class Own(torch.Tensor):
    """Somebody's tensor, with a look-up of its own."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        raise AssertionError(f"foreign code ran: {function}")

    def untyped_storage(self) -> Any:
        raise AssertionError("foreign code ran")

    def storage_offset(self) -> Any:
        raise AssertionError("foreign code ran")


def test_what_is_known_of_values_is_known_of_every_tensor_that_shows_them(origins: TensorOrigins) -> None:
    tensor = torch.zeros(64)
    origins.put_origin(origins.storage_of(tensor), HERE)
    for other in (tensor, tensor[3:], tensor.detach(), nn.Parameter(tensor)):
        assert origins.origin(origins.storage_of(other)) == HERE
    assert origins.origin(origins.storage_of(tensor.clone())) is None
    assert len(origins) == 1


def test_what_came_last_is_what_is_known(origins: TensorOrigins) -> None:
    storage = torch.zeros(64).untyped_storage()
    for origin in (HERE, NO_OBSERVED_FILE):
        origins.put_origin(storage, origin)
        assert origins.origin(storage) is origin
        assert origins.origins_by_id[id(storage)].value is origin


def test_samples_are_kept_by_where_in_the_storage_a_tensor_begins(origins: TensorOrigins) -> None:
    tensor = torch.zeros(64, 64)
    storage = origins.storage_of(tensor)
    for row, sample in enumerate(SAMPLES):
        origins.put_sample(storage, tensor[row], sample)
    assert [origins.sample(storage, tensor[row].view(8, 8)) for row in range(4)] == [*SAMPLES, None]
    origins.put_sample(storage, tensor, SAMPLES[2])
    assert origins.sample(storage, tensor[0]) == SAMPLES[2]
    origins.forget_samples(storage)
    assert [origins.sample(storage, tensor[row]) for row in range(3)] == [None] * 3


def test_nothing_that_is_known_keeps_a_tensor_or_its_memory_alive_or_refers_to_the_tensor(origins: TensorOrigins) -> None:
    tensor = torch.zeros(64)
    storage = origins.storage_of(tensor)
    origins.put_origin(storage, HERE)
    origins.put_sample(storage, tensor, SAMPLES[0])
    assert weakref.getweakrefcount(tensor) == 0
    assert storage is not None
    gone = weakref.ref(storage)
    del storage, tensor
    gc.collect()
    assert gone() is None
    assert len(origins) == len(origins._samples) == 0


def test_no_code_of_a_subclass_runs(origins: TensorOrigins) -> None:
    plain = torch.zeros(64)
    own: Any = plain[16:].as_subclass(Own)
    storage = origins.storage_of(own)
    assert storage is plain.untyped_storage()
    origins.put_sample(storage, own, SAMPLES[1])
    assert origins.sample(storage, own) == origins.sample(storage, plain[16:]) == SAMPLES[1]


WITHOUT_STORAGE: dict[str, Callable[[], torch.Tensor]] = {
    "sparse": lambda: torch.eye(4).to_sparse(),
    "opaque": lambda: torch.zeros(4, 4).to_mkldnn(),
}


@pytest.mark.parametrize("make", WITHOUT_STORAGE.values(), ids=WITHOUT_STORAGE.keys())
def test_of_a_tensor_without_storage_nothing_is_known_and_nothing_kept(
    origins: TensorOrigins, make: Callable[[], torch.Tensor]
) -> None:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("no MKL-DNN here")
    tensor = make()
    storage = origins.storage_of(tensor)
    assert storage is None
    origins.put_origin(storage, HERE)
    origins.put_sample(storage, tensor, SAMPLES[0])
    origins.forget_samples(storage)
    assert (origins.origin(storage), origins.sample(storage, tensor)) == (None, None)
    assert len(origins) == 0


def test_where_storages_can_not_be_referred_to_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(_: ModuleType) -> bool:
        return False

    monkeypatch.setattr("gpumodels.provenance.tensor_origins.storages_can_be_referred_to", impossible)
    origins, tensor = TensorOrigins(torch), torch.zeros(64)
    storage = origins.storage_of(tensor)
    origins.put_origin(storage, HERE)
    origins.put_sample(storage, tensor, SAMPLES[0])
    assert (origins.origin(storage), origins.sample(storage, tensor)) == (None, None)


def test_a_sample_from_elsewhere_is_outdated_until_another_is_taken(origins: TensorOrigins) -> None:
    tensor = torch.zeros(64)
    storage = origins.storage_of(tensor)
    origins.put_sample_of_copied(storage, tensor, SAMPLES[0])
    assert (origins.is_outdated(storage), origins.was_written(storage, tensor)) == (True, False)
    tensor.add_(1)
    assert origins.was_written(storage, tensor)
    origins.put_sample(storage, tensor, SAMPLES[1])
    assert (origins.is_outdated(storage), origins.was_written(storage, tensor)) == (False, False)


def test_what_is_filled_out_of_reach_is_overwritten_by_the_next_write(origins: TensorOrigins) -> None:
    there, here = torch.zeros(64, device="meta"), torch.zeros(64)
    for tensor in (there, here):
        origins.note_filled(origins.storage_of(tensor), tensor)
        assert not origins.was_overwritten(origins.storage_of(tensor), tensor)
        tensor.add_(1)
    assert origins.was_overwritten(origins.storage_of(there), there)
    assert not origins.was_overwritten(origins.storage_of(here), here), "its values can be read"


def test_inference_tensors_count_no_writes(origins: TensorOrigins) -> None:
    with torch.inference_mode():
        tensor = torch.zeros(64, device="meta")
        origins.note_filled(origins.storage_of(tensor), tensor)
        tensor.add_(1)
    assert not origins.was_overwritten(origins.storage_of(tensor), tensor)
