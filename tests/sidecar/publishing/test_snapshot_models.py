"""What a snapshot says of found models: identity, age, device, and no more rows than readers accept."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from gpumodels_shared.name_sources import NameSource
from gpumodels_shared.schema import SMALL_MODELS_ID
from modules import Backbone, Block, a_fake, attached, by_class, distinct_bytes


class UNet(Backbone):
    """A model of another class than `Backbone`."""


def test_a_model_that_is_deleted_while_it_is_described_is_left_out_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[nn.Module] = []

    def delete() -> None:
        if len(kept) > 1:
            del kept[0]

    with attached(pause=delete) as sidecar:
        kept += [Backbone(), Backbone(blocks=2)]
        found = sidecar.scan()
        assert len(found) == 2
        (left,) = sidecar.described(found)
        assert left.layers == len(found[1].tree.names)
        assert sidecar.failures.count == 0
    assert caplog.records == []


def test_a_models_id_and_age_survive_moves_casts_and_wrappers() -> None:
    with attached() as sidecar:
        model = Backbone()
        (first,) = sidecar.models(now_ns=1)
        model.half()
        (cast,) = sidecar.models(now_ns=2)
        wrapped = nn.DataParallel(model)
        (inside,) = sidecar.models(now_ns=3)
        assert (first.id, first.loaded_at_ns) == (cast.id, cast.loaded_at_ns) == (inside.id, inside.loaded_at_ns)
        assert inside.class_name == "Backbone"
        assert wrapped is not None


def test_an_offloaded_model_keeps_the_device_that_it_ran_on() -> None:
    with attached() as sidecar:
        model = nn.Linear(4, 4, bias=False)
        model.weight = nn.Parameter(a_fake((512, 512), "cuda:0"), requires_grad=False)
        (loaded,) = sidecar.models()
        model.weight = nn.Parameter(a_fake((512, 512), "cpu"), requires_grad=False)
        (parked,) = sidecar.models()
        assert (loaded.device, loaded.offloaded_bytes) == ("cuda:0", 0)
        assert (parked.device, parked.offloaded_bytes, parked.on_device_bytes) == ("cuda:0", 512 * 512 * 2, 0)


def test_roots_below_64_kib_are_one_entry_with_their_sum() -> None:
    with attached() as sidecar:
        small = [nn.Linear(8, 8) for _ in range(3)]
        model = Backbone()
        models = sidecar.models()
        assert [one.name for one in models] == ["Backbone", "3 small modules"]
        assert models[1].id == SMALL_MODELS_ID
        assert models[1].resident_bytes == distinct_bytes(*small)
        assert model is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_unchanged_model_keeps_its_description_while_another_changes(dtype: torch.dtype) -> None:
    with attached() as sidecar:
        still, cast = Backbone(), UNet()
        before = by_class(sidecar.models(now_ns=5))
        cast.to(dtype)
        after = by_class(sidecar.models(now_ns=9))
        assert after["Backbone"] == before["Backbone"]
        assert after["UNet"].dtypes == {str(dtype).removeprefix("torch."): distinct_bytes(cast)}
        assert still is not cast


def test_more_models_than_readers_accept_are_summed_from_the_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels.publishing.snapshot_models.MAX_MODELS", 3)
    with attached() as sidecar:
        models = [Backbone(blocks) for blocks in (1, 2, 3, 4, 5)]
        rows = sidecar.models()
        assert [row.resident_bytes for row in rows[:-1]] == [distinct_bytes(model) for model in models[:1:-1]]
        assert rows[-1].name == "2 small modules"
        assert sum(row.resident_bytes for row in rows) == distinct_bytes(*models)


def test_no_more_rows_are_published_than_readers_accept_adapters_included(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels.publishing.snapshot_models.MAX_MODELS", 3)
    with attached() as sidecar:
        base = Backbone(blocks=4)
        for number in range(4):
            for block in base.blocks:
                table = block._modules.setdefault("lora_A", nn.ModuleDict())
                assert isinstance(table, nn.ModuleDict)
                table[f"style{number}"] = nn.Linear(256, 64 + number, bias=False)
        models = sidecar.models()
        assert [model.name for model in models[1:3]] == ["style3", "style2"]
        assert len(models) == 3 + 1  # and the sum of what is left
        assert sum(model.resident_bytes for model in models) == distinct_bytes(base)


def test_an_unloaded_model_is_gone_before_the_next_scan_and_so_are_its_adapters() -> None:
    with attached() as sidecar:
        gone, stays = Backbone(), UNet()
        gone.blocks[0].lora_A = nn.ModuleDict({"style": nn.Linear(256, 128, bias=False)})
        small = Block(8)
        models = sidecar.models()
        assert sorted(model.class_name for model in models) == ["", "Backbone", "UNet", "adapter"]
        assert sidecar.snapshot_models.living(models) == models
        del gone
        gc.collect()
        assert sorted(model.class_name for model in sidecar.snapshot_models.living(models)) == ["", "UNet"]
        assert id(stays) != id(small)


def test_no_id_is_given_twice() -> None:
    with attached() as sidecar:
        first = Backbone()
        (before,) = sidecar.models()
        del first
        gc.collect()
        second = Backbone()
        (after,) = sidecar.models()
        assert before.id != after.id
        assert second is not None


def test_a_model_that_was_not_looked_into_yet_is_there_with_its_bytes_and_a_pending_name() -> None:
    with attached() as sidecar:
        model = Backbone()
        (found,) = sidecar.snapshot_models.models(sidecar.scan(), 0)
        assert (found.name, found.name_source) == ("Backbone", NameSource.PENDING)
        assert found.resident_bytes == distinct_bytes(model)


def test_the_largest_model_stands_first() -> None:
    with attached() as sidecar:
        models = [Backbone(blocks) for blocks in (2, 4, 1, 3)]
        sizes = [model.resident_bytes for model in sidecar.models()]
        assert sizes == sorted(map(distinct_bytes, models), reverse=True)


def test_precision_is_published_for_as_long_as_weights_are_packed() -> None:
    with attached() as sidecar:
        model = nn.Module()
        model.register_buffer("weight", torch.zeros(512, 512, dtype=torch.float8_e4m3fn))
        model.register_buffer("scale_weight", torch.ones(()))
        (packed,) = sidecar.models()
        assert packed.precision == "fp8 scaled"
        model.register_buffer("weight", torch.zeros(512, 512, dtype=torch.bfloat16))
        (unpacked,) = sidecar.described(sidecar.scan())
        assert unpacked.precision is None
