from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.hooks import torch_hooks
from gpumodels.observing.observers import Observers
from gpumodels.observing.reachable_objects import HOST_CODE, Root
from modules import Backbone, attached, distinct_bytes, frozen, rows


def observed() -> list[Any]:
    """Functions that are observed. When Dynamo first compiles, it replaces the first and the last of them."""
    return [nn.Module.__init__, nn.Module.load_state_dict, nn.Module.to, torch.load, torch.save, nn.Module.__setstate__]


def hook_tables() -> list[int]:
    registering = torch.nn.modules.module
    names = ("module", "parameter", "buffer")
    return [len(getattr(registering, f"_global_{name}_registration_hooks")) for name in names]


def test_torch_is_left_as_it_was() -> None:
    before = observed()
    codes = [function.__code__ for function in before]
    with attached():
        assert observed() == before
        assert (torch.load, torch.save) == (torch.serialization.load, torch.serialization.save)
        assert hook_tables() == [0, 0, 0]
    assert observed() == before
    assert all(function.__code__ is code for function, code in zip(before, codes, strict=True))


def test_where_nothing_can_be_observed_torchs_registration_hooks_tell_of_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Observers, "_choose_mechanism", lambda *_: None)
    with attached() as sidecar:
        assert hook_tables() == [1, 1, 0]
        model = Backbone()
        lone = nn.Linear(2, 2)
        assert len(sidecar.registry) == len(list(model.modules())) + 1
        assert lone is not None
    assert hook_tables() == [0, 0, 0]


def test_an_observed_functions_exceptions_are_its_own() -> None:
    with attached(), pytest.raises(RuntimeError, match=r"Missing key\(s\)"):
        nn.Linear(2, 2).load_state_dict({})


def test_the_sweep_finds_modules_made_before_and_only_those() -> None:
    model = Backbone()
    with attached() as sidecar:
        assert len(sidecar.registry) == 0
        sidecar.hooks.sweep()
        known = {id(ref()) for ref in sidecar.registry.refs()}
        assert {id(module) for module in model.modules()} <= known


def test_frozen_modules_and_optimizers_are_found_by_a_walk_where_the_sweep_says_that_it_missed_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = {"models": [Backbone()]}
    optimizer = torch.optim.SGD(app["models"][0].parameters())
    monkeypatch.setattr(torch_hooks, "roots_of_process", lambda: [Root(HOST_CODE, lambda: [app, [optimizer]])])
    with attached() as sidecar, frozen():
        gc.unfreeze()
        assert sidecar.hooks.sweep()
    with attached() as sidecar, frozen():
        assert not sidecar.hooks.sweep()
        assert sidecar.scan() == []
        for _ in sidecar.hooks.walk():
            pass
        assert rows(sidecar) == [("Backbone", {"cpu": distinct_bytes(*app["models"])})]
        assert len(sidecar.training_state.optimizers) == 1


def test_a_failure_inside_a_hook_does_not_reach_the_host() -> None:
    with attached() as sidecar, pytest.MonkeyPatch.context() as patch:

        def fails(*_: object) -> None:
            raise RuntimeError("inside the sidecar")

        patch.setattr(sidecar.registry, "add", fails)
        patch.setattr(sidecar.origin_tracker, "current_origin", fails)
        model = nn.Sequential(nn.Linear(2, 2))
        model.load_state_dict(model.state_dict())
        model.half()
        assert sidecar.failures.count > 0


def test_what_the_host_saves_is_byte_for_byte_the_same(tmp_path: object) -> None:
    import io

    def saved(model: nn.Module) -> bytes:
        stream = io.BytesIO()
        torch.save(model.state_dict(), stream)
        return stream.getvalue()

    torch.manual_seed(1)
    model = Backbone()
    before = saved(model)
    with attached() as sidecar:
        sidecar.hooks.sweep()
        model.load_state_dict(model.state_dict())
        sidecar.scan()
        assert saved(model) == before
