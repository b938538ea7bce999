"""Equal layers of an object that is no module are one row; equal models, and modules that lie apart, are not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from modules import Backbone, Block, Slotted, Stack, attached, distinct_bytes, rows

FLOAT = 4


HELD_BY: dict[str, Callable[[list[Any]], Any]] = {
    "object": Stack,
    "slotted object": Slotted,
    "list": lambda layers: layers,
    "dict": lambda layers: dict(enumerate(layers)),
    "list of lists": lambda layers: [layers[start : start + 4] for start in range(0, len(layers), 4)],
    "lists in an object": lambda layers: Stack([layers[:100], layers[100:]]),
    "objects in a list": lambda layers: [Stack([layer]) for layer in layers],
    "attributes of an object": lambda layers: SimpleNamespace(**{f"layer{n}": layer for n, layer in enumerate(layers)}),
}


@pytest.mark.parametrize("hold", HELD_BY.values(), ids=HELD_BY.keys())
def test_equal_layers_of_one_object_are_one_row_that_unfolds(hold: Callable[[list[Any]], Any]) -> None:
    with attached() as sidecar:
        engine = hold([nn.Linear(64, 64) for _ in range(200)])
        (found,) = sidecar.models()
        assert (found.name, found.class_name) == ("Linear × 200", "Linear × 200")
        assert found.resident_bytes == 200 * 65 * 64 * FLOAT
        assert found.tree is not None
        assert found.tree.names == ("", *map(str, range(200)))
        assert found.tree.depths == (0, *[1] * 200)
        assert found.parameters == 200 * 65 * 64
        assert engine is not None


def test_equal_blocks_stand_together_and_other_layers_of_the_object_by_themselves() -> None:
    with attached() as sidecar:
        engine = SimpleNamespace(embed=nn.Embedding(1000, 64), blocks=[Block() for _ in range(12)], head=nn.Linear(64, 1000))
        assert sorted(name for name, _ in rows(sidecar)) == ["Block × 12", "Embedding", "Linear"]
        assert engine is not None


def test_equal_layers_of_two_objects_are_two_rows() -> None:
    with attached() as sidecar:
        engines = Stack([nn.Linear(64, 64) for _ in range(20)]), Stack([nn.Linear(64, 64) for _ in range(30)])
        kept = [weakref.ref(engine) for engine in engines]
        first, second = engines
        del engines
        assert sorted(name for name, _ in rows(sidecar)) == ["Linear × 20", "Linear × 30"]
        assert first is not second
        assert kept


def test_equal_models_in_one_list_stay_rows_of_their_own() -> None:
    with attached() as sidecar:
        fine_tunes = [Backbone(2) for _ in range(10)]
        shallow = [nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(8, 8) for _ in range(4))}) for _ in range(10)]
        assert [size["cpu"] for _, size in rows(sidecar)] == [distinct_bytes(model) for model in [*fine_tunes, *shallow]]


def test_equal_modules_that_lie_apart_stay_rows_of_their_own() -> None:
    with attached() as sidecar:
        one, two, three, four = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        five, six, seven, eight = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        assert len(rows(sidecar)) == 8
        assert len({id(module) for module in (one, two, three, four, five, six, seven, eight)}) == 8


def test_an_unregistered_module_is_found_by_its_layers() -> None:
    class Untold(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = Stack([nn.Linear(64, 64) for _ in range(20)])

    with attached() as sidecar:
        model = Untold()
        assert rows(sidecar) == [("Untold", {"cpu": 20 * 65 * 64 * FLOAT})]
        assert model is not None


def test_who_holds_equal_modules_is_searched_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []
    search = gc.get_referrers

    def counted(*of: Any) -> list[Any]:
        searches.append(len(of))
        return search(*of)

    monkeypatch.setattr("gpumodels.models.equal_roots.gc.get_referrers", counted)
    now = [0.0]
    with attached() as sidecar:
        sidecar.scanner._equal._clock = lambda: now[0]
        engine = Stack([nn.Linear(64, 64) for _ in range(200)])
        (before,) = sidecar.scan()
        asked = len(searches)
        assert 0 < asked <= 4
        other = Backbone()
        assert before in sidecar.scan()
        assert len(searches) == asked
        sidecar.scanner._equal._not_before = 1.0
        engine.layers.append(nn.Linear(64, 64))
        assert sorted(name for name, _ in rows(sidecar)) == ["Backbone", "Linear", "Linear × 200"]
        now[0] = 2.0
        assert sorted(name for name, _ in rows(sidecar)) == ["Backbone", "Linear × 201"]
        assert other is not None


def test_layers_that_stand_together_are_freed_at_once() -> None:
    with attached() as sidecar:
        engine = Stack([nn.Linear(64, 64) for _ in range(20)])
        watched = weakref.ref(engine.layers[3])
        assert len(rows(sidecar)) == 1
        del engine.layers[3]
        assert watched() is None
        assert rows(sidecar) == [("Linear × 19", {"cpu": 19 * 65 * 64 * FLOAT})]
        del engine
        assert rows(sidecar) == []


def test_models_by_a_librarys_word_stay_rows_of_their_own_whatever_they_are_made_of() -> None:
    class PreTrainedModel(nn.Linear):
        pass

    with attached() as sidecar:
        models = [PreTrainedModel(64, 64) for _ in range(10)]
        assert rows(sidecar) == [("PreTrainedModel", {"cpu": distinct_bytes(model)}) for model in models]
