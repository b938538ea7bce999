"""Modules in plain attributes: whose they are."""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from modules import Backbone, Block, Slotted, Stack, attached, distinct_bytes, rows, the_only

FLOAT = 4
BLOCK_BYTES = distinct_bytes(Block())
WIDTH = 256


def blocks(count: int = 3) -> list[Block]:
    return [Block() for _ in range(count)]


Pair = namedtuple("Pair", ["first", "rest"])


@dataclass
class Listed:
    layers: list[Any] = field(default_factory=list)


class Layers(list[Any]):
    """A list of somebody's own."""

    def __iter__(self) -> Any:
        raise AssertionError("foreign code ran")

    def __len__(self) -> int:
        raise AssertionError("foreign code ran")


KEPT_AS: dict[str, Callable[[list[Block]], Any]] = {
    "list": lambda parts: parts,
    "tuple": tuple,
    "dict": lambda parts: {f"block{number}": part for number, part in enumerate(parts)},
    "dict by number": lambda parts: dict(enumerate(parts)),
    "ordered dict": lambda parts: OrderedDict(enumerate(parts)),
    "set": set,
    "deque": deque,
    "list of lists": lambda parts: [[part] for part in parts],
    "dict of lists": lambda parts: {"down": parts[:1], "up": parts[1:]},
    "list of dicts": lambda parts: [{"attention": part, "scale": 1.0} for part in parts],
    "named tuple": lambda parts: Pair(parts[0], parts[1:]),
    "somebody's list": Layers,
    "object": Stack,
    "slotted object": Slotted,
    "dataclass": Listed,
    "namespace": lambda parts: SimpleNamespace(layers=parts),
    "list of objects": lambda parts: [Stack([part]) for part in parts],
    "object in an object": lambda parts: Stack([Stack(parts)]),
}


class Keeper(nn.Module):
    """A model whose blocks torch doesn't know of."""

    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(WIDTH))
        self.layers = kept


@pytest.mark.parametrize("keep", KEPT_AS.values(), ids=KEPT_AS.keys())
def test_blocks_in_plain_attributes_are_one_model(keep: Callable[[list[Block]], Any]) -> None:
    with attached() as sidecar:
        model = Keeper(keep(blocks()))
        found = the_only(sidecar)
        assert found.class_name == "Keeper"
        assert found.bytes_by_device == {"cpu": 3 * BLOCK_BYTES + WIDTH * FLOAT}
        assert found.tree.names.count("q") == 3
        assert sidecar.failures.count == 0
        assert model is not None


def test_the_layer_tree_names_blocks_in_a_list_by_attribute_and_position() -> None:
    with attached() as sidecar:
        model = Keeper(blocks(2))
        assert the_only(sidecar).tree.names == ("", "layers.0", "q", "k", "layers.1", "q", "k")
        assert model is not None


def test_a_module_of_603_blocks_in_a_list_is_one_model_and_the_next_scan_reads_nothing() -> None:
    with attached() as sidecar:
        model = Keeper([nn.Linear(8, 8) for _ in range(603)])
        found = the_only(sidecar)
        assert found.bytes_by_device == {"cpu": distinct_bytes(model) + 603 * 72 * FLOAT}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sidecar.scanner._reader, "read", lambda *_: pytest.fail("read again"))
            assert the_only(sidecar) is found


def test_a_block_that_is_put_into_the_list_later_joins_the_model_and_one_that_is_taken_out_is_a_model_again() -> None:
    with attached() as sidecar:
        model = Keeper(blocks(1))
        assert the_only(sidecar).bytes_by_device == {"cpu": BLOCK_BYTES + WIDTH * FLOAT}
        model.layers += blocks(2)
        assert the_only(sidecar).bytes_by_device == {"cpu": 3 * BLOCK_BYTES + WIDTH * FLOAT}
        out = model.layers.pop()
        assert sorted(name for name, _ in rows(sidecar)) == ["Block", "Keeper"]
        assert out is not None


def test_a_block_that_loses_its_module_joins_who_keeps_it_in_a_list() -> None:
    with attached() as sidecar:
        block = Block()
        parent = nn.ModuleDict({"block": block, "more": Block()})
        model = Keeper([block])
        assert sorted(rows(sidecar)) == [("Keeper", {"cpu": WIDTH * FLOAT}), ("ModuleDict", {"cpu": 2 * BLOCK_BYTES})]
        del parent
        gc.collect()
        assert rows(sidecar) == [("Keeper", {"cpu": BLOCK_BYTES + WIDTH * FLOAT})]
        assert model is not None


def test_blocks_that_remember_their_model_in_a_list_are_still_its_blocks() -> None:
    with attached() as sidecar:
        model = Keeper(blocks())
        for block in model.layers:
            block.parent = [model]
        assert rows(sidecar) == [("Keeper", {"cpu": 3 * BLOCK_BYTES + WIDTH * FLOAT})]


def test_an_adapter_that_remembers_the_layer_it_adapts_does_not_take_it() -> None:
    with attached() as sidecar:
        base = Backbone()
        adapter: Any = nn.Linear(WIDTH, WIDTH)
        adapter.org_module = [base.blocks[0].q]
        assert sorted(rows(sidecar)) == [
            ("Backbone", {"cpu": distinct_bytes(base)}),
            ("Linear", {"cpu": distinct_bytes(adapter)}),
        ]


def test_models_that_know_each_other_through_a_trainer_stay_two() -> None:
    with attached() as sidecar:
        student: Any = Backbone(1)
        teacher = Backbone(2)
        student.trainer = SimpleNamespace(models=[student, teacher], step=3)
        assert sorted(size["cpu"] for _, size in rows(sidecar)) == [distinct_bytes(student), distinct_bytes(teacher)]


def test_a_librarys_model_in_a_list_stays_a_model() -> None:
    class PreTrainedModel(Backbone):
        pass

    with attached() as sidecar:
        model = Keeper([PreTrainedModel()])
        assert sorted(name for name, _ in rows(sidecar)) == ["Keeper", "PreTrainedModel"]
        assert model is not None


def test_what_is_deleted_from_a_plain_list_is_freed_at_once() -> None:
    with attached() as sidecar:
        model = Keeper(blocks())
        watched = weakref.ref(model.layers[0])
        sidecar.scan()
        del model.layers[0]
        assert watched() is None
