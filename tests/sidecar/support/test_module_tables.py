"""A module's tables, read alike from dicts, from classes of other libraries, and from TorchScript."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.support.module_tables import NO_TABLES, entries_of, entry, tables_of
from modules import attached, distinct_bytes, the_only

TORCH: Any = torch


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 64, bias=False)
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("mean", torch.ones(5))
        self.register_buffer("absent", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x)
        return out


MAKE = {
    "a module": Net,
    "scripted": lambda: TORCH.jit.script(Net()),
    "traced": lambda: TORCH.jit.trace(Net(), torch.zeros(1, 64)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())
def test_tables_are_those_of_the_module_however_it_was_made(make: Any) -> None:
    tables = tables_of(vars(make()))
    assert [name for name, _ in entries_of(tables.modules)] == ["inner"]
    assert [(name, tensor.numel()) for name, tensor in entries_of(tables.parameters)] == [("scale", 3)]
    assert [(name, tensor.numel()) for name, tensor in entries_of(tables.buffers)] == [("mean", 5)]
    assert entry(tables.buffers, "mean").numel() == 5
    assert [entry(table, "nothing") for table in tables] == [None, None, None]
    weight = entry(tables_of(vars(entry(tables.modules, "inner"))).parameters, "weight")
    assert weight.shape == (64, 64)


def test_a_module_that_is_not_initialised_has_no_tables() -> None:
    assert tables_of({}) == NO_TABLES
    assert tables_of({"_parameters": {}}) == NO_TABLES


class Gathering(OrderedDict):  # type: ignore[type-arg]
    """Like DeepSpeed's dictionary of parameters, which gathers one that is read: with the processes of all other ranks."""

    def fail(self, *_: object) -> Any:
        raise AssertionError("foreign code ran")

    __getitem__ = __iter__ = __len__ = __bool__ = __contains__ = keys = values = items = get = fail


def test_no_code_of_a_librarys_own_tables_runs() -> None:
    with attached() as sidecar:
        model = nn.ModuleList([nn.Linear(64, 64), nn.Linear(64, 64)])
        size = distinct_bytes(model)
        tables: list[tuple[dict[str, Any], str, dict[str, Any]]] = []
        for module in (model, *model):
            for name in ("_modules", "_parameters", "_buffers"):
                state = vars(module)
                tables.append((state, name, state[name]))
                state[name] = Gathering(state[name])
        try:
            assert the_only(sidecar).bytes_by_device == {"cpu": size}
            assert sidecar.models()[0].resident_bytes == size
            sidecar.parts()
            assert sidecar.scan(afresh=True)[0].parameters == 2 * 65 * 64
        finally:
            for state, name, table in tables:
                state[name] = table
        assert sidecar.failures.count == 0
