"""Since when models have not run: in an observer on a fake GPU, with a fake clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import gpumodels.use.last_uses as last_uses
from watched_use import SECOND, Unet, Vae, Watched, X, on_gpu
from work import counted

Watch = Callable[[bool], Watched]


def test_in_a_process_that_computes_nothing_is_known(watch: Watch) -> None:
    watched, _model = watch(False), Unet()
    assert watched.idle(200, allocates=False) == {}


def test_a_model_of_a_process_that_rests_has_not_run_and_is_told_after_a_minute(watch: Watch) -> None:
    watched, _model = watch(False), Unet()
    watched.idle(3)
    assert watched.idle(40, computes=False) == {}
    assert watched.idle(40, computes=False) == {"Unet": (78, "process")}
    assert watched.idle(1) == {}, "it may have run"
    assert last_uses.SHORTEST_REST_NS == 60 * SECOND


def test_a_model_is_the_same_object_for_as_long_as_it_rests(watch: Watch) -> None:
    watched, _model = watch(False), Unet()
    watched.idle(100, computes=False)
    (before,) = (model for model in watched.observer.models if model.class_name == "Unet")
    watched.idle(5, computes=False)
    assert before.last_used_by == "process"
    assert any(model is before for model in watched.observer.models)


def test_a_model_on_a_device_where_nothing_is_allocated_has_not_run(watch: Watch) -> None:
    watched, _models = watch(False), (on_gpu(Unet()), Vae())
    watched.idle(3)
    assert watched.idle(100, allocates=False) == {"Unet": (100, "allocations")}
    watched.uses._graphs.may_exist = True
    assert watched.idle(1, allocates=False) == {}, "a replayed graph allocates nothing"
    watched.uses._graphs.may_exist = False
    assert watched.idle(100, allocates=False) == {"Unet": (99, "allocations")}
    assert watched.idle(1) == {}, "what was allocated may be its output"


def test_what_is_partly_in_host_memory_may_be_computed_there(watch: Watch) -> None:
    watched, model = watch(False), on_gpu(Unet())
    model.append = nn.Linear(200, 200)
    assert watched.idle(100, allocates=False) == {}


@pytest.mark.parametrize(("device", "counts"), [("xpu:0", 5), ("cuda:0", None), ("cuda:0", 0)])
def test_where_nobody_counts_allocations_or_graphs_nothing_is_known(watch: Watch, device: str, counts: int | None) -> None:
    watched, _model = watch(False), on_gpu(Unet(), device)
    watched.device, watched.allocations = device, counts
    assert watched.idle(100, allocates=False) == {}


def test_calls_tell_of_models_on_a_device_only_where_there_is_no_graph(watch: Watch) -> None:
    watched, _models = watch(True), (on_gpu(Unet()), Vae())
    watched.idle(20)
    assert watched.idle(20) == {"Unet": (39, "calls"), "Vae": (39, "calls")}
    watched.uses._graphs.may_exist = True
    assert watched.idle(20) == {"Vae": (59, "calls")}


def test_models_that_share_weights_may_run_as_each_other(watch: Watch) -> None:
    watched, model, other = watch(True), Unet(), Vae()
    other.layers.get_submodule("1")._parameters["weight"] = model.layers.get_parameter("1.weight")
    watched.idle(5)
    assert watched.idle(20) == {}


def test_what_is_left_of_a_model_has_no_use(watch: Watch) -> None:
    watched, model = watch(True), Unet()
    watched.idle(20)
    kept = model.layers
    del model
    assert set(watched.idle(100, computes=False)) <= {"Sequential"}
    (left,) = (one for one in watched.observer.models if one.class_name == "Sequential")
    assert left.leftover_of is None or left.last_used_ns is None
    assert len(kept) == 2


@pytest.mark.parametrize("tracks_calls", [False, True])
def test_a_tick_costs_nothing_for_models_of_which_nothing_else_is_known(watch: Watch, tracks_calls: bool) -> None:
    def steps() -> int:
        with counted() as work:
            for _ in watched.uses.update(watched.observer._found):
                pass
        return work.steps

    watched, model = watch(tracks_calls), Unet()
    watched.idle(30, computes=False)
    watched.idle(70, computes=False)
    model(X)
    few = steps()
    others = [Vae() for _ in range(100)]
    watched.idle(100, computes=False)
    model(X)
    assert steps() - few < 20
    assert len(others) == 100


def test_an_update_that_was_broken_off_is_made_up_for(watch: Watch) -> None:
    watched = watch(True)
    watched.idle(1)
    models = [Unet(), Vae()]
    watched.observer._attached.scanner.scan(lambda: None)  # type: ignore[union-attr]
    found = watched.observer._attached.scanner.scan(lambda: None)  # type: ignore[union-attr]
    steps: Any = watched.uses.update(found)
    next(steps)
    models[0](X)
    steps.close()
    assert watched.idle(12) == {"Unet": (11, "calls"), "Vae": (11, "calls")}
    assert torch.is_tensor(X)
