"""Every way in which plain PyTorch holds memory, against sums computed by hand."""

from __future__ import annotations

import warnings
from enum import IntEnum

import pytest
import torch
from torch import nn

from gpumodels.models.allocators import DeviceCounters, device_memory
from gpumodels.models.training_state import NonModelBytes
from modules import Backbone, a_fake, attached, distinct_bytes

FLOAT = 4


def test_data_that_is_swapped_without_notice_is_seen_by_the_next_scan() -> None:
    with attached() as sidecar:
        model = nn.Linear(256, 256)
        before = sidecar.scan()[0].bytes_by_device["cpu"]
        model.weight.data = model.weight.data.half()
        assert sidecar.scan()[0].bytes_by_device["cpu"] == before - 256 * 256 * 2
        model.weight.untyped_storage().resize_(0)
        assert sidecar.scan()[0].bytes_by_device["cpu"] == 256 * FLOAT


def test_lazy_modules_hold_nothing_until_they_are_initialised() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with attached() as sidecar:
            model = nn.Sequential(nn.LazyLinear(128), nn.Linear(128, 8))
            assert sidecar.scan()[0].bytes_by_device == {"cpu": distinct_bytes(model[1])}
            assert sidecar.failures.count == 0
            model(torch.zeros(2, 64))
            assert sidecar.scan()[0].bytes_by_device == {"cpu": distinct_bytes(model)}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_data_parallel_and_compiled_wrappers_are_seen_through() -> None:
    with attached() as sidecar:
        model = Backbone()
        compiled = torch.compile(model)
        parallel = nn.DataParallel(model)
        (found,) = sidecar.scan()
        assert found.class_name == "Backbone"
        assert found.bytes_by_device == {"cpu": distinct_bytes(model)}
        assert compiled is not parallel


def test_expanded_and_sliced_views_count_their_storage_once() -> None:
    with attached() as sidecar:
        storage = torch.zeros(128, 128)
        model = nn.Module()
        model.first = nn.Parameter(storage[:64])
        model.second = nn.Parameter(storage[64:])
        model.register_buffer("mask", torch.zeros(1).expand(1000, 1000))
        assert sidecar.scan()[0].bytes_by_device == {"cpu": 128 * 128 * FLOAT + FLOAT}


def test_a_model_over_two_gpus_host_memory_and_disk_counts_each_part_where_it_is() -> None:
    with attached() as sidecar:
        model = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(4))
        sizes = {"cuda:0": 300, "cuda:1": 200, "cpu": 100}
        for layer, (device, rows) in zip(model, sizes.items(), strict=False):
            layer.weight = nn.Parameter(a_fake((rows, 1024), device), requires_grad=False)
        model[3].weight = nn.Parameter(torch.empty(50, 1024, dtype=torch.bfloat16, device="meta"), requires_grad=False)
        (found,) = sidecar.models()
        assert found.bytes_by_device == {device: rows * 2048 for device, rows in sizes.items()}
        assert (found.device, found.offloaded_bytes) == ("cuda:0", 150 * 2048)
        held = {memory.device: memory.models_bytes for memory in device_memory((found,), None, {})}
        assert held == found.bytes_by_device


def test_allocated_bytes_that_nothing_accounts_for_are_other_and_never_negative() -> None:
    with attached() as sidecar:
        model = nn.Linear(4, 4, bias=False)
        model.weight = nn.Parameter(a_fake((1024, 1024), "cuda:0"), requires_grad=False)
        models = sidecar.models()
        parts = NonModelBytes(gradients={"cuda:0": 100}, optimizer={"cuda:0": 200}, caches={"cuda:0": 300})
        size = 1024 * 1024 * 2
        (memory,) = device_memory(models, parts, {"cuda:0": DeviceCounters(size + 1000, size + 5000)})
        assert (memory.models_bytes, memory.gradients_bytes, memory.optimizer_bytes, memory.cache_bytes) == (size, 100, 200, 300)
        assert memory.other_bytes == 400
        (less,) = device_memory(models, parts, {"cuda:0": DeviceCounters(size, size)})
        assert less.other_bytes == 0


def test_unknown_sums_are_none() -> None:
    with attached() as sidecar:
        model = Backbone()
        (host,) = device_memory(sidecar.models(), sidecar.parts(), {})
        assert (host.allocated_bytes, host.reserved_bytes, host.other_bytes) == (None, None, None)
        assert host.gradients_bytes == 0
        (early,) = device_memory((), None, {"cuda:0": DeviceCounters(10, 20)})
        assert (early.gradients_bytes, early.optimizer_bytes, early.other_bytes) == (None, None, None)
        assert model is not None


def test_a_module_that_is_changed_while_it_is_scanned_is_right_after_the_next_scan() -> None:
    with attached() as sidecar, pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpumodels.support.slices.SLICE_SECONDS", 0.0)
        model = nn.ModuleList(nn.Linear(32, 32) for _ in range(50))

        def change() -> None:
            if len(model) > 10:
                del model[-1]
            model[0].weight = nn.Parameter(torch.zeros(len(model), 32))

        sidecar.scan(pause=change)
        (found,) = sidecar.scan()
        assert found.bytes_by_device == {"cpu": distinct_bytes(model)}
        assert sidecar.failures.count == 0


class GGMLQuantizationType(IntEnum):
    """As in the package `gguf`."""

    F32 = 0
    Q8_0 = 8
    IQ4_XS = 23
    BF16 = 30


class Blocks(torch.Tensor):
    """A GGUF file's blocks, as ComfyUI's node packs and diffusers keep them: the shape is the original's."""

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        raise AssertionError("foreign code ran")


def blocks(attribute: str, kind: object) -> torch.Tensor:
    made = torch.zeros(64, 68, dtype=torch.uint8).as_subclass(Blocks)
    setattr(made, attribute, kind)
    return made


@pytest.mark.parametrize("attribute", ["tensor_type", "quant_type"])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (GGMLQuantizationType.Q8_0, "Q8_0"),
        (GGMLQuantizationType.IQ4_XS, "IQ4_XS"),
        (GGMLQuantizationType.BF16, "bfloat16"),
        ("nf4", "uint8"),
        (None, "uint8"),
    ],
)
def test_the_blocks_of_a_gguf_file_are_called_by_their_type(attribute: str, kind: object, dtype: str) -> None:
    with attached() as sidecar:
        model = nn.Linear(64, 64, bias=False)
        del model.weight
        model.register_buffer("weight", blocks(attribute, kind))
        (found,) = sidecar.scan()
        assert found.dtypes == {dtype: 64 * 68}
        assert sidecar.failures.count == 0


def test_a_state_dict_of_meta_tensors_that_a_model_keeps_is_nothing_of_it_that_is_elsewhere() -> None:
    with attached() as sidecar:
        model = nn.Linear(64, 64, bias=False)
        vars(model)["pipeline"] = {"sd": {"weight": torch.zeros(64, 64, device="meta")}}
        (found,) = sidecar.scan()
        assert (found.bytes_by_device, found.missing_bytes) == ({"cpu": 64 * 64 * FLOAT}, 0)
