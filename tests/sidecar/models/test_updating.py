"""Updating a model without visiting all of it gives the same as assembling it anew."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.models import groups
from gpumodels.models.assembling import FoundModel
from gpumodels.models.scan import Scanner
from gpumodels_shared.schema import LayerTree
from modules import Attached, Backbone, a_fake, attached
from work import counted

OPERATIONS = 60


class Tied(Backbone):
    """A model with a tied weight, a shared buffer and an empty one."""

    def __init__(self) -> None:
        super().__init__(blocks=2, width=128)
        self.out = nn.Linear(128, 128)
        self.out.weight = self.blocks[0].q.weight  # type: ignore[assignment, union-attr]
        scale = torch.ones(64)
        self.register_buffer("scale", scale)
        self.blocks[1].register_buffer("scale", scale)
        self.register_buffer("empty", torch.ones(0))


class Adapted(Backbone):
    def __init__(self) -> None:
        super().__init__(blocks=2, width=128)
        self.blocks[0].add_module("lora_down", nn.Linear(128, 8))


def rows(tree: LayerTree) -> list[Any]:
    """The content of a layer tree, without its numbering of devices and dtypes."""

    def sizes(entries: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, str, str, int]]:
        return sorted((row, tree.devices[device], tree.dtypes[dtype], size) for row, device, dtype, size in entries)

    classes = [tree.class_names[number] for number in tree.classes]
    columns = list(zip(tree.names, tree.depths, classes, tree.parameters, strict=True))
    return [columns, sizes(tree.memory), sizes(tree.shared), sorted(tree.devices), sorted(tree.dtypes)]


def said(model: FoundModel) -> dict[str, Any]:
    names = set(FoundModel.__dataclass_fields__) - {"tree", "shared_weights"}  # what was shared once is remembered
    return {**{name: getattr(model, name) for name in names}, "tree": rows(model.tree)}


@contextmanager
def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Records for each attempted update whether it succeeded."""
    outcomes: list[bool] = []
    update = groups.Group.update

    def noting(self: groups.Group, *arguments: Any) -> Generator[None, None, bool]:
        outcomes.append((yield from update(self, *arguments)))
        return outcomes[-1]

    with monkeypatch.context() as patched:
        patched.setattr(groups.Group, "update", noting)
        yield outcomes


def scanned(sidecar: Attached) -> list[FoundModel]:
    return sidecar.scanner.scan(lambda: None, everything=True)


def scanned_afresh(sidecar: Attached) -> list[FoundModel]:
    return Scanner(sidecar.registry, sidecar.scanner._reader, sidecar.failures).scan(lambda: None, afresh=True)


def operations(models: Sequence[nn.Module], dice: random.Random) -> Iterator[Callable[[], None]]:
    """Changes that hosts make to models without notice, endlessly and at random."""
    modules = [module for model in models for module in model.modules()]

    def held() -> list[nn.Module]:
        return [module for module in modules if module._parameters.get("weight") is not None]

    def replaced(**change: Any) -> None:
        parameters = dice.choice(held())._parameters
        name, former = dice.choice([(name, one) for name, one in parameters.items() if one is not None])
        parameters[name] = nn.Parameter(torch.zeros(tuple(former.shape)).to(**change), requires_grad=False)

    def made_smaller() -> None:
        dice.choice(held())._parameters["weight"] = nn.Parameter(torch.zeros(dice.choice((0, 1, 3, 40))))

    def removed() -> None:
        dice.choice([module for module in modules if module._buffers])._buffers.popitem()

    def emptied() -> None:
        module = dice.choice(held())
        module._parameters.update(dict.fromkeys(module._parameters))

    def added() -> None:
        name = dice.choice(("extra", "lora_extra", "other"))
        dice.choice(modules)._buffers[name] = torch.zeros(dice.choice((0, 5, 50)), dtype=dice.choice((torch.float32, torch.int8)))

    def tied() -> None:
        first, second = dice.choice(held()), dice.choice(held())
        first._parameters["weight"] = second._parameters["weight"]

    def on_a_device() -> None:
        module = dice.choice(held())
        for name, parameter in module._parameters.items():
            if parameter is not None:
                fake = a_fake(tuple(parameter.shape), "cuda:0", torch.float32)
                module._parameters[name] = nn.Parameter(fake, requires_grad=False)

    def sized() -> None:
        dice.choice(held()).get_parameter("weight").untyped_storage().resize_(0)

    ways: tuple[tuple[int, Callable[[], None]], ...] = (
        (6, lambda: replaced(dtype=torch.float32)),
        (2, lambda: replaced(dtype=torch.float16)),
        (1, lambda: replaced(device="meta")),
        (2, made_smaller),
        (2, removed),
        (1, emptied),
        (4, added),
        (1, tied),
        (4, on_a_device),
        (1, sized),
    )
    while True:
        yield dice.choices([way for _, way in ways], [weight for weight, _ in ways])[0]


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_an_update_gives_the_same_as_assembling_the_model_anew(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(seed)
    with attached() as sidecar, noted(monkeypatch) as outcomes, torch.no_grad():
        models = [Tied(), Backbone(blocks=3, width=128), Adapted(), nn.Sequential(Backbone(blocks=1), nn.Linear(300, 300))]
        scanned(sidecar)
        waiting = operations(models, dice)
        for _ in range(OPERATIONS):
            for _ in range(dice.choice((1, 1, 1, 2, 5))):
                next(waiting)()
            found, expected = scanned(sidecar), scanned_afresh(sidecar)
            assert [said(model) for model in found] == [said(model) for model in expected]
        assert sidecar.failures.count == 0
    assert outcomes.count(True) >= OPERATIONS // 6
    assert outcomes.count(False) >= OPERATIONS // 6


def test_one_changed_module_of_a_large_model_costs_some_copied_columns() -> None:
    def steps_of_a_change(blocks: int) -> int:
        with attached() as sidecar:
            model = Backbone(blocks=blocks)
            sidecar.scanner.scan(lambda: None, everything=False)
            for turn in range(3):  # the first also pays for finding the roots
                model.blocks[1].get_submodule("q").weight.data = torch.zeros(turn + 1)
                sidecar.registry.note_change(id(model.blocks[1]))
                with counted() as work:
                    sidecar.scanner.scan(lambda: None, everything=False)
            return work.steps

    small, large = steps_of_a_change(3), steps_of_a_change(120)
    assert large - small < 10 * 117  # a block has four modules; to assemble one takes some forty lines


def test_a_module_that_holds_nothing_any_more_is_no_layer() -> None:
    with attached() as sidecar:
        model = Backbone()
        scanned(sidecar)
        q, k = model.blocks[0].get_submodule("q"), model.blocks[0].get_submodule("k")
        q._parameters.update(weight=None, bias=None)
        k._parameters["weight"] = nn.Parameter(torch.zeros(256, 256))
        (found,) = scanned(sidecar)
        assert "q" not in found.tree.names[: found.tree.names.index("k")]
        assert [said(one) for one in scanned_afresh(sidecar)] == [said(found)]
