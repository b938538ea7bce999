"""What is left of models in reference cycles, until Python's collector comes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from gpumodels.models import leftovers
from modules import Attached, a_fake, attached, distinct_bytes


@pytest.fixture(autouse=True)
def _no_collections_and_no_rests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(leftovers, "REST_FACTOR", 0)
    gc.disable()
    yield
    gc.enable()


class KeepsItsMethod(nn.Linear):
    """A layer in a cycle of its own."""

    def __init__(self, width: int = 256) -> None:
        super().__init__(width, width)
        self.__dict__["run"] = self.forward


class Decoder(nn.Module):
    def __init__(self, layers: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(KeepsItsMethod() for _ in range(layers))
        self.head = nn.Linear(256, 256)


class Vocoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(weight_norm(nn.Conv1d(64, 64, 7)) for _ in range(3))


class WithParent(nn.Module):
    """A model that all of its layers know."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(256, 256)
        self.layer.__dict__["parent"] = self


def loaded(model: nn.Module, path: Path) -> nn.Module:
    save_file(model.state_dict(), path)
    model.load_state_dict(load_file(path))
    return model


def shown(sidecar: Attached) -> list[tuple[str, str | None, int]]:
    return [(one.name, one.leftover_of, one.resident_bytes) for one in sidecar.models()]


def test_layers_that_outlive_their_model_are_one_entry_by_its_name(tmp_path: Path) -> None:
    with attached() as sidecar:
        held = [loaded(Decoder(), tmp_path / "decoder_v1.safetensors")]
        size = distinct_bytes(*[layer for layer in held[0].modules() if isinstance(layer, KeepsItsMethod)])
        assert [name for name, *_ in shown(sidecar)] == ["decoder_v1"]
        held.clear()
        assert shown(sidecar) == [("left of decoder_v1", "decoder_v1", size)]
        (model,) = sidecar.models()
        assert (model.class_name, model.files, model.candidates, model.confidence) == ("KeepsItsMethod × 4", (), (), 1.0)
        assert shown(sidecar) == [("left of decoder_v1", "decoder_v1", size)]
        gc.collect()
        assert shown(sidecar) == []


def test_what_is_left_of_two_models_are_two_entries_beside_the_living(tmp_path: Path) -> None:
    with attached() as sidecar:
        held = {name: loaded(Decoder(), tmp_path / f"{name}.safetensors") for name in ("first_v1", "second_v1", "third_v1")}
        assert {name for name, *_ in shown(sidecar)} == held.keys()
        del held["first_v1"]
        del held["second_v1"]
        assert {name for name, *_ in shown(sidecar)} == {"left of first_v1", "left of second_v1", "third_v1"}
        gc.collect()
        assert {name for name, *_ in shown(sidecar)} == {"third_v1"}


def test_the_name_stays_when_another_module_takes_the_deleted_models_address(tmp_path: Path) -> None:
    with attached() as sidecar:
        held = [loaded(Decoder(), tmp_path / "decoder_v1.safetensors")]
        shown(sidecar)
        held.clear()
        others = [Decoder() for _ in range(8)]
        names = [name for name, *_ in shown(sidecar)]
        assert sorted(set(names)) == ["Decoder", "left of decoder_v1"]
        assert len(names) == len(others) + 1


def test_a_part_that_the_host_still_holds_is_a_model() -> None:
    with attached() as sidecar:
        held = [Decoder()]
        shown(sidecar)
        kept: list[Any] = [held[0].layers[0]]
        held.clear()
        assert sorted(name for name, *_ in shown(sidecar)) == ["KeepsItsMethod", "left of Decoder"]
        kept.clear()
        assert sorted(name for name, *_ in shown(sidecar)) == ["left of Decoder", "left of KeepsItsMethod"]


def test_a_model_that_is_itself_a_cycle_is_left_once_it_is_deleted_and_keeps_its_id() -> None:
    with attached() as sidecar:
        held = [WithParent()]
        (before,) = sidecar.models()
        held.clear()
        (after,) = sidecar.models()
        assert (before.name, before.leftover_of) == ("WithParent", None)
        assert (after.name, after.leftover_of, after.id) == ("left of WithParent", "WithParent", before.id)
        assert after.tree == before.tree


def test_a_model_that_became_a_cycle_after_it_was_seen_is_left_once_it_is_deleted() -> None:
    with attached() as sidecar:
        held = [nn.Sequential(nn.Linear(256, 256))]
        shown(sidecar)
        for number in range(4):  # as offloading does
            held[0].__dict__[f"forward_{number}"] = held[0].forward
        assert [name for name, *_ in shown(sidecar)] == ["Sequential"]
        held.clear()
        assert [name for name, *_ in shown(sidecar)] == ["left of Sequential"]


def test_what_the_host_finds_again_by_a_weak_reference_is_a_model_again() -> None:
    import weakref

    with attached() as sidecar:
        held = [WithParent()]
        weak = weakref.ref(held[0])
        shown(sidecar)
        held.clear()
        assert [name for name, *_ in shown(sidecar)] == ["left of WithParent"]
        held.append(weak())  # type: ignore[arg-type]
        assert [name for name, *_ in shown(sidecar)] == ["WithParent"]


def test_the_parametrized_layers_of_a_model_that_no_scan_saw_are_one_entry() -> None:
    with attached() as sidecar:
        model = Vocoder()
        Vocoder().state_dict()
        found = shown(sidecar)
        assert found[0] == ("Vocoder", None, distinct_bytes(model))
        assert found[1:] == [("left of a deleted model", "a deleted model", distinct_bytes(model))]


def test_layers_replaced_in_a_living_model_are_left_of_it() -> None:
    with attached() as sidecar:
        model = Decoder()
        size = distinct_bytes(model.layers)
        shown(sidecar)
        for number in range(4):
            model.layers[number] = nn.Linear(256, 256)
        assert shown(sidecar) == [("Decoder", None, distinct_bytes(model)), ("left of Decoder", "Decoder", size)]


def test_folded_weight_norm_leaves_nothing() -> None:
    with attached() as sidecar:
        model = Vocoder()
        shown(sidecar)
        for conv in model.convs:
            parametrize.remove_parametrizations(conv, "weight")
        assert shown(sidecar) == [("Vocoder", None, distinct_bytes(model))]


def test_no_root_is_inspected_beyond_the_time_for_it_and_the_rest_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "MAX_SECONDS", 0.0)
    with attached() as sidecar:
        held = [WithParent()]
        shown(sidecar)
        held.clear()
        assert [name for name, *_ in shown(sidecar)] == ["WithParent"]
        monkeypatch.setattr(leftovers, "MAX_SECONDS", 60.0)
        assert [name for name, *_ in shown(sidecar)] == ["left of WithParent"]


def test_adapters_in_what_is_left_stand_under_it() -> None:
    class LoraLayer(KeepsItsMethod):
        def __init__(self) -> None:
            super().__init__()
            self.lora_A = nn.ModuleDict({"style": nn.Linear(256, 64, bias=False)})

    with attached() as sidecar:
        held = [nn.ModuleList([LoraLayer(), LoraLayer()])]
        shown(sidecar)
        held.clear()
        base, adapter = sidecar.models()
        assert (base.name, adapter.name) == ("left of ModuleList", "left of ModuleList")
        assert (adapter.kind, adapter.parent, base.adapters) == ("lora", base.id, (adapter.id,))


def test_a_root_that_lost_a_reference_is_inspected_again_after_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "REST_FACTOR", 1e9)
    with attached() as sidecar:
        first, second = [WithParent()], [WithParent()]
        shown(sidecar)
        first.clear()
        assert sorted(name for name, *_ in shown(sidecar)) == ["WithParent", "left of WithParent"]
        second.clear()
        assert sorted(name for name, *_ in shown(sidecar)) == ["WithParent", "left of WithParent"]


def test_what_is_left_may_be_on_any_device() -> None:
    def put(model: Decoder) -> Decoder:
        for layer in model.layers:
            layer._parameters["weight"] = nn.Parameter(a_fake((256, 256), "cuda:0", torch.float32), requires_grad=False)
        return model

    with attached() as sidecar:
        held = [put(Decoder(2))]
        shown(sidecar)
        held.clear()
        (model,) = sidecar.models()
        assert (model.name, model.device) == ("left of Decoder", "cuda:0")
