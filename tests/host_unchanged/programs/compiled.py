"""Hosts that compile, with dynamo: graphs, breaks, guards and recompilations."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import torch
from torch import nn

from host_unchanged.observing import bits, guards, outcome, plain, scanned
from host_unchanged.table import MissingError, program


class MovingAverage(nn.Module):
    """Assigns a buffer in forward, as EMAs, codebooks and caches do."""

    usage: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("usage", torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x)
        self.usage = self.usage * 0.9 + out.detach().mean(0) * 0.1
        return out * self.usage


class AssignsAll(nn.Module):
    """Assigns parameters, modules and plain tensors in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("seen", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x)
        self.seen = out.detach()
        self.last = self.seen + 1
        self.register_buffer("made", self.last * 2)
        return out


def _is_ours(guarded: str) -> bool:
    """Whether a guard is ours: before Python 3.12, compiled functions that make modules also guard that `torch.compiler` stays.

    It always is. The guard is there because the code that we add to `Module.__init__` asks `torch.compiler` whether it compiles.
    """
    return sys.version_info < (3, 12) and guarded.endswith((".torch.compiler", ".torch.compiler.is_compiling"))


def _explained(function: Any, *arguments: Any) -> Any:
    torch._dynamo.reset()
    explained = torch._dynamo.explain(function)(*arguments)
    return {
        "graphs": explained.graph_count,
        "breaks": explained.graph_break_count,
        "reasons": [plain(each.reason) for each in explained.break_reasons],
        "code": [each.code for each in explained.graphs],
        "guards": sorted(plain(f"{each.name} {each.code_list}") for each in explained.out_guards if not _is_ours(each.name)),
    }


def _run_compiled(model: Any, *inputs: Any, **options: Any) -> Any:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    scanned()
    compiled: Any = torch.compile(model, **{"backend": "eager", **options})
    results = [bits(compiled(each)) for each in inputs]
    scanned()
    results += [bits(compiled(each)) for each in inputs]
    code = type(model).forward if isinstance(model, nn.Module) else model
    return {
        "results": results,
        "stats": dict(torch._dynamo.utils.counters["stats"]),
        "frames": dict(torch._dynamo.utils.counters["frames"]),
        "breaks": {plain(reason): count for reason, count in torch._dynamo.utils.counters["graph_break"].items()},
        "guards": guards(code),
    }


@program
def assigned_buffer_in_one_graph() -> Any:
    model = MovingAverage()
    return [outcome(_run_compiled, model, torch.ones(2, 8), torch.ones(3, 8), fullgraph=True), bits(model)]


@program
def assigned_buffer() -> Any:
    model = MovingAverage()
    return [_run_compiled(model, torch.ones(2, 8), torch.ones(3, 8)), bits(model), _explained(MovingAverage(), torch.ones(2, 8))]


@program
def assigned_attributes() -> Any:
    model = AssignsAll()
    return [_run_compiled(model, torch.ones(2, 8)), bits(model), _explained(AssignsAll(), torch.ones(2, 8))]


@program
def module_made_inside() -> Any:
    def make_and_run(x: torch.Tensor) -> torch.Tensor:
        made = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        out: torch.Tensor = made(x)
        return out

    return [_explained(make_and_run, torch.ones(2, 8)), _run_compiled(make_and_run, torch.ones(2, 8))["breaks"]]


def _load_and_halve(model: nn.Module, state: Any, x: torch.Tensor) -> torch.Tensor:
    x = x + 1
    model.load_state_dict(state)
    out: torch.Tensor = model(x)
    model.half()
    return out * 2


@program
def loads_and_halves_inside() -> Any:
    model = nn.Linear(8, 8)
    state = nn.Linear(8, 8).state_dict()
    explained = _explained(_load_and_halve, model, state, torch.ones(2, 8))
    compiled = torch.compile(_load_and_halve, backend="eager")
    return [explained, bits(compiled(nn.Linear(8, 8), state, torch.ones(2, 8))), bits(model)]


@program
def loads_a_file_inside() -> Any:
    torch.save(nn.Linear(8, 8).state_dict(), "weights.pt")

    def load_inside(x: torch.Tensor) -> torch.Tensor:
        weights = torch.load("weights.pt")
        out: torch.Tensor = x @ weights["weight"]
        return out

    return [_explained(load_inside, torch.ones(2, 8)), bits(torch.compile(load_inside, backend="eager")(torch.ones(2, 8)))]


@program
def moves_and_swaps_inside() -> Any:
    def move_inside(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        model.to(torch.float64)
        model.register_buffer("late", x * 2)
        model.extra = nn.Linear(2, 2)
        out: torch.Tensor = model(x.double())
        return out

    return _explained(move_inside, nn.Linear(8, 8), torch.ones(2, 8))


def _exported_graph(strict: bool) -> str:
    return plain(str(torch.export.export(MovingAverage(), (torch.ones(2, 8),), strict=strict).graph))


@program
def exported() -> Any:
    results = []
    for strict in (True, False):
        torch._dynamo.reset()
        results.append(outcome(_exported_graph, strict))
    return results


@program
def exported_program_saved_and_loaded() -> Any:
    exported = torch.export.export(nn.Sequential(nn.Linear(8, 8), nn.ReLU()), (torch.ones(2, 8),))
    torch.export.save(exported, "exported.pt2")
    loaded = torch.export.load("exported.pt2")
    return [plain(str(loaded.graph_signature)), bits(loaded.module()(torch.ones(2, 8)))]


@program
def recompilations() -> Any:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    results = _run_compiled(model, torch.ones(2, 8), torch.ones(3, 8), torch.ones(4, 8), dynamic=False)
    state = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).state_dict()
    compiled = torch.compile(model, backend="eager")
    compiled(torch.ones(2, 8))
    model.load_state_dict(state)
    scanned()
    compiled(torch.ones(2, 8))
    model.double()
    compiled(torch.ones(2, 8).double())
    model.append(nn.Linear(8, 8).double())
    compiled(torch.ones(2, 8).double())
    return [results, dict(torch._dynamo.utils.counters["stats"]), dict(torch._dynamo.utils.counters["frames"])]


@program
def loaded_model_compiled() -> Any:
    from safetensors.torch import load_file, save_file

    save_file(MovingAverage().state_dict(), "weights.safetensors")
    model = MovingAverage()
    model.load_state_dict(load_file("weights.safetensors"), assign=True)
    return [_run_compiled(model, torch.ones(2, 8), fullgraph=True), bits(model)]


@program
def training_step_by_aot_eager() -> Any:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled(torch.arange(16.0).reshape(2, 8)).sum().backward()
    return [bits(model), [bits(each.grad) for each in model.parameters()]]


@program
def inductor() -> Any:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        raise MissingError("no C++ compiler")
    from torch._inductor import config

    model = MovingAverage().eval()
    with torch.no_grad(), config.patch({"cpp.simdlen": 0, "cpp_cache_precompile_headers": False}):  # to be done in seconds
        return [bits(torch.compile(model, fullgraph=True)(torch.ones(2, 8))), dict(torch._dynamo.utils.counters["stats"])]
