"""Hosts that name models and stages: what runs within them, what they return and raise, and what is kept."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import weakref
from collections.abc import AsyncIterator, Generator
from typing import Any

import torch
from torch import nn

import gpumodels
from host_unchanged.observing import bits, outcome, scanned
from host_unchanged.table import program


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))


@program
def labelled_modules_are_what_they_were() -> Any:
    model = _model()
    before = [sorted(vars(model)), bits(model), str(model)]
    gpumodels.label(model, "ranker", file="ranker.safetensors")
    gpumodels.label(model[0], "its first layer")
    scanned(2)
    gpumodels.label(model, None)
    after = [sorted(vars(model)), bits(model), str(model)]
    again = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    gone = weakref.ref(model)
    kept = [bits(each) for each in again]
    del model
    gc.collect()
    return [before, after, kept, gone() is None]


@program
def wrong_labels_raise_nothing() -> Any:
    return [
        outcome(gpumodels.label, None, "nothing"),
        outcome(gpumodels.label, _model(), 3),
        outcome(gpumodels.label, _model(), "x" * 100_000, file=object()),
    ]


@gpumodels.stage("computes")
def _computes(x: torch.Tensor) -> torch.Tensor:
    """Doubles."""
    return x * 2


@gpumodels.stage("fails")
def _fails() -> None:
    raise ValueError("as it was")


@gpumodels.stage("counts")
def _counts() -> Generator[int, int | None, None]:
    got = yield 1
    yield got or 2


@gpumodels.stage("waits")
async def _waits() -> int:
    await asyncio.sleep(0)
    return 3


@gpumodels.stage("streams")
async def _streams() -> AsyncIterator[int]:
    for number in range(2):
        yield number


async def _in_tasks() -> Any:
    async with gpumodels.stage("outer"):
        return [await asyncio.gather(_waits(), _waits()), [number async for number in _streams()]]


@program
def what_runs_in_stages_comes_out_the_same() -> Any:
    results: list[Any] = [bits(_computes(torch.ones(3))), outcome(_fails), asyncio.run(_in_tasks())]
    counting = _counts()
    results += [next(counting), counting.send(7), list(counting)]
    with gpumodels.stage("denoise") as given, gpumodels.stage("step"):
        results += [repr(type(given).__name__), bits(_model()(torch.zeros(1, 8)).shape)]
        scanned()
    return results


@program
def decorated_functions_are_what_they_were() -> Any:
    functions = (_computes, _fails, _counts, _waits, _streams)
    return [
        [each.__name__, each.__qualname__, each.__doc__, str(inspect.signature(each)), pickle.loads(pickle.dumps(each)) is each]
        for each in functions
    ] + [inspect.isgeneratorfunction(_counts), inspect.iscoroutinefunction(_waits), inspect.isasyncgenfunction(_streams)]


@program
def stages_break_no_graph() -> Any:
    def run(x: torch.Tensor) -> torch.Tensor:
        with gpumodels.stage("traced"):
            return x + 1

    compiled = torch.compile(run, backend="eager", fullgraph=True)
    return bits(compiled(torch.ones(3)))
