"""How models hang together: adapters and their bases, models that hold the same storages."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import nn

from modules import Backbone, Block, attached, by_class, distinct_bytes
from work import counted


class UNet(Backbone):
    """One model."""


class Decoder(Backbone):
    """Another."""


def test_a_module_under_two_models_is_marked_in_both() -> None:
    with attached() as sidecar:
        common = Backbone()
        first, second = nn.ModuleDict({"common": common, "own": Block()}), nn.ModuleDict({"common": common, "own": Block(128)})
        models = sidecar.models()
        assert sorted(one.resident_bytes for one in models) == [distinct_bytes(second["own"]), distinct_bytes(first)]
        ids = {one.id for one in models}
        assert [set(one.shares_with) for one in models] == [ids - {one.id} for one in models]
        assert second is not first


class KohyaModule(nn.Module):
    """As kohya's networks do it: its forward takes the place of the adapted module's."""

    def __init__(self, adapted: Any) -> None:
        super().__init__()
        self.lora_down = nn.Linear(256, 64, bias=False)
        self.lora_up = nn.Linear(64, 256, bias=False)
        self.org_forward = adapted.forward
        adapted.forward = self.forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.org_forward(x) + self.lora_up(self.lora_down(x))
        return out


def test_a_kohya_network_is_an_adapter_of_the_model_that_it_stands_in_for() -> None:
    with attached() as sidecar:
        base, stranger = UNet(), Decoder()
        network = nn.ModuleList(KohyaModule(block.get_submodule("q")) for block in base.blocks)
        models = by_class(sidecar.models())
        assert models["ModuleList"].kind == "lora"
        assert models["ModuleList"].parent == models["UNet"].id
        assert models["UNet"].adapters == (models["ModuleList"].id,)
        assert models["ModuleList"].resident_bytes == distinct_bytes(network)
        assert models["UNet"].resident_bytes == distinct_bytes(base)
        assert models["Decoder"].adapters == ()
        assert models["Decoder"].resident_bytes == distinct_bytes(stranger)


def test_two_hundred_models_that_share_a_tensor_are_related_to_each_other_in_one_pass() -> None:
    def steps(count: int) -> int:
        with attached() as sidecar:
            models = [Backbone(blocks=1, width=200 + number) for number in range(count)]
            for model in models[1:]:
                model.blocks[0].get_submodule("q").weight = models[0].blocks[0].get_submodule("q").weight
            found = sidecar.scan()
            sidecar.described(found)
            with counted() as work:
                described = sidecar.snapshot_models.models(found, 0)
            assert len(described) == count
            assert all(len(one.shares_with) == count - 1 for one in described)
            return work.steps

    assert steps(80) < 2.6 * steps(40)


def test_an_adapter_names_its_base_and_the_base_its_adapters() -> None:
    with attached() as sidecar:
        base = UNet()
        base.blocks[0].lora_A = nn.ModuleDict({name: nn.Linear(256, 128, bias=False) for name in ("one", "two")})
        first, *adapters = sidecar.models()
        assert first.class_name == "UNet"
        assert {adapter.name: adapter.parent for adapter in adapters} == {"one": first.id, "two": first.id}
        assert sorted(first.adapters) == sorted(adapter.id for adapter in adapters)
        assert first.shares_with == ()


def test_an_adapter_whose_base_is_gone_stands_by_itself() -> None:
    with attached() as sidecar:
        base: Any = UNet()
        network = nn.ModuleList(KohyaModule(block.get_submodule("q")) for block in base.blocks)
        assert by_class(sidecar.models())["ModuleList"].parent is not None
        for module in network:
            vars(module)["org_forward"] = None
        del base, module
        gc.collect()
        (alone,) = sidecar.models()
        assert (alone.class_name, alone.parent) == ("ModuleList", None)


def test_models_are_the_same_objects_as_before_while_nothing_about_them_changes_their_relations_included() -> None:
    with attached() as sidecar:
        alone, first, second = Backbone(4), UNet(3), Decoder(2)
        second.blocks[0].get_submodule("q").weight = first.blocks[0].get_submodule("q").weight
        before = sidecar.models()
        assert all(one is other for one, other in zip(sidecar.models(), before, strict=True))
        ids = {one.class_name: one.id for one in before}
        assert {one.class_name: one.shares_with for one in before} == {
            "Backbone": (),
            "UNet": (ids["Decoder"],),
            "Decoder": (ids["UNet"],),
        }
        assert alone is not None
