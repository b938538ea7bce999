"""Hosts that load and save files: what is read and written, what modes record, and what goes wrong."""

from __future__ import annotations

import io
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from host_unchanged.observing import bits, file_bits, outcome, scanned
from host_unchanged.table import program

TORCH: Any = torch
"""Torch where its own functions have no types."""


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.register_buffer("scale", torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(torch.relu(self.first(x))) * self.scale
        return out


def _files() -> None:
    state = Network().state_dict()
    safetensors.torch.save_file(state, "weights.safetensors", {"step": "3"})
    torch.save(state, "weights.pt")
    torch.save(state, "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(Network(), "network.pt")


def _by_safe_open() -> dict[str, torch.Tensor]:
    with safetensors.safe_open("weights.safetensors", "pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _by_slices() -> dict[str, torch.Tensor]:
    with safetensors.safe_open("weights.safetensors", "pt") as file:
        return {name: file.get_slice(name)[:] for name in file.offset_keys()}


def _from_stream() -> Any:
    with open("weights.pt", "rb") as stream:
        return torch.load(stream)


class Reader(io.RawIOBase):
    """Reads another file, and notes what it is asked."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.file = file
        self.asked: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name not in ("asked", "file", "__dict__"):
            self.asked.append(name)
        return super().__getattribute__(name)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readinto(self, buffer: Any) -> int:
        return self.file.readinto(buffer)


def _from_temporary() -> Any:
    with tempfile.NamedTemporaryFile() as stream:
        stream.write(Path("weights.pt").read_bytes())
        stream.seek(0)
        return torch.load(stream)


def _from_spooled() -> Any:
    with tempfile.SpooledTemporaryFile() as stream:
        stream.write(Path("weights.pt").read_bytes())
        stream.seek(0)
        return torch.load(stream)


def _from_buffered() -> Any:
    with open("weights.pt", "rb") as stream:
        return torch.load(io.BufferedReader(Reader(stream)))


WAYS: dict[str, Callable[[], Any]] = {
    "temporary": _from_temporary,
    "spooled": _from_spooled,
    "buffered": _from_buffered,
    "load_file": lambda: safetensors.torch.load_file("weights.safetensors"),
    "load": lambda: safetensors.torch.load(Path("weights.safetensors").read_bytes()),
    "safe_open": _by_safe_open,
    "slices": _by_slices,
    "torch.load": lambda: torch.load("weights.pt"),
    "mapped": lambda: torch.load("weights.pt", mmap=True),
    "legacy": lambda: torch.load("legacy.pt"),
    "stream": _from_stream,
    "bytes": lambda: torch.load(io.BytesIO(Path("weights.pt").read_bytes())),
    "pathlib": lambda: torch.load(Path("weights.pt"), map_location=torch.device("cpu"), weights_only=True),
    "whole": lambda: torch.load("network.pt", weights_only=False).state_dict(),
}


@program
def every_way_to_load() -> Any:
    _files()
    results = {}
    for name, way in WAYS.items():
        state, model = way(), Network()
        results[name] = [bits(state), bits(model.load_state_dict(state)), bits(model(torch.ones(1, 8)))]
        scanned(2)
        results[name] += [[tensor.is_shared(), tensor._version, sorted(vars(tensor))] for tensor in state.values()]
        results[name] += [type(state).__name__, bits(state)]
        assigned = Network()
        results[name] += [bits(assigned.load_state_dict(state, assign=True)), [each._version for each in assigned.parameters()]]
    return results


def _from_stream_to_script() -> Any:
    with open("frozen.pt", "rb") as stream:
        return TORCH.jit.load(stream)


SCRIPT_WAYS: dict[str, Callable[[], Any]] = {
    "scripted": lambda: TORCH.jit.load("scripted.pt"),
    "traced": lambda: TORCH.jit.load("traced.pt", map_location="cpu"),
    "frozen": _from_stream_to_script,
    "torch.load": lambda: torch.load("scripted.pt", weights_only=False),
}


@program
def torchscript_loaded_cast_and_saved() -> Any:
    """Graphs as they are and as they were optimized, since nothing may be compiled or profiled that wasn't."""
    made = Network().eval()
    traced = TORCH.jit.trace(made, torch.ones(1, 8))
    TORCH.jit.save(TORCH.jit.script(made), "scripted.pt")
    TORCH.jit.save(traced, "traced.pt")
    TORCH.jit.save(TORCH.jit.freeze(TORCH.jit.script(made)), "frozen.pt")
    results: dict[str, Any] = {}
    for name, way in SCRIPT_WAYS.items():
        model = way()
        scanned(2)
        results[name] = [model.code, str(model.graph), list(model.state_dict()), bits(model(torch.ones(1, 8)))]
        scanned(1)
        if name != "frozen":
            results[name] += [bits(model.load_state_dict(made.state_dict())), bits(model.double()(torch.ones(1, 8).double()))]
        TORCH.jit.save(model, f"{name}.out.pt")
        results[name] += [sorted(vars(model)), bits(Path(f"{name}.out.pt").read_bytes())]
    return [results, str(TORCH.jit.last_executed_optimized_graph()), bits(traced.half())]


class Larger(nn.Module):
    """Larger than what is searched for in files."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(256, 256)


@program
def what_torch_load_is_given_stays_as_it_is() -> Any:
    """Buffers whose bytes others have, that were written with room to spare, or are exported; and an object that keeps count."""
    path = Path("larger.pt")
    torch.save(Larger().state_dict(), path)
    data = path.read_bytes()
    shared, own, written, exported = io.BytesIO(data), io.BytesIO(path.read_bytes()), io.BytesIO(), io.BytesIO(path.read_bytes())
    for start in range(0, len(data), 1000):
        written.write(data[start : start + 1000])
    results: list[Any] = []
    with exported.getbuffer() as view, path.open("rb") as file:
        reader = Reader(file)
        for source in (shared, own, written, exported, reader, io.BufferedReader(Reader(path.open("rb")))):
            source.seek(0)
            results += [bits(torch.load(source)), outcome(source.tell)]
        scanned(1)
        results += [reader.asked, len(view), [sys.getsizeof(each) for each in (shared, own, written, exported)]]
    for buffer in (shared, own, written, exported):
        buffer.write(b"more")
        buffer.truncate(100)
        results += [bits(buffer.getvalue()), sys.getsizeof(buffer)]
    return results


@program
def load_model_and_save_model() -> Any:
    model = Network()
    safetensors.torch.save_model(model, "model.safetensors")
    told = safetensors.torch.load_model(model, "model.safetensors")
    return [bits(told), file_bits("model.safetensors"), bits(safetensors.torch.save(model.state_dict()))]


@program
def files_saved_after_loading_and_moving() -> Any:
    _files()
    for name, way in WAYS.items():
        model = Network()
        model.load_state_dict(way(), assign=name in ("mapped", "safe_open"))
        scanned(1)
        model = model.to(torch.bfloat16).to("cpu").float()
        torch.save({"model": model, "state": model.state_dict()}, f"{name}.out.pt")
        torch.save(model.state_dict(), f"{name}.legacy.pt", _use_new_zipfile_serialization=False)
        safetensors.torch.save_file(model.state_dict(), f"{name}.out.safetensors")
    found = file_bits(".")
    return {name: kept for name, kept in found.items() if "legacy" not in name}  # those name storages by address


@program
def legacy_files_hold_the_same() -> Any:
    _files()
    model = Network()
    model.load_state_dict(torch.load("legacy.pt"))
    torch.save(model, "again.pt", _use_new_zipfile_serialization=False)
    return [len(Path("again.pt").read_bytes()), bits(torch.load("again.pt", weights_only=False))]


@program
def a_file_replaced_and_removed_while_loaded() -> Any:
    _files()
    model = Network()
    model.load_state_dict(safetensors.torch.load_file("weights.safetensors"), assign=True)
    scanned()
    safetensors.torch.save_file(Network().state_dict(), "other.safetensors")
    Path("other.safetensors").replace("weights.safetensors")
    scanned()
    before = bits(model)
    Path("weights.safetensors").unlink()
    Path("weights.pt").unlink()
    scanned()
    return [before, bits(model), sorted(str(path) for path in Path().iterdir())]


@program
def errors_of_loading() -> Any:
    _files()
    whole = Path("weights.pt").read_bytes()
    Path("truncated.pt").write_bytes(whole[: len(whole) // 2])
    Path("truncated.safetensors").write_bytes(Path("weights.safetensors").read_bytes()[:300])
    Path("empty.pt").touch()
    with open("evil.pt", "wb") as stream:
        pickle.dump(_files, stream)
    model = Network()
    wrong = {"first.weight": torch.zeros(3, 3), "unknown": torch.zeros(1)}
    return {
        "missing": outcome(torch.load, "nowhere.pt"),
        "missing safetensors": outcome(safetensors.torch.load_file, "nowhere.safetensors"),
        "truncated": outcome(torch.load, "truncated.pt"),
        "truncated safetensors": outcome(safetensors.torch.load_file, "truncated.safetensors"),
        "empty": outcome(torch.load, "empty.pt"),
        "not weights only": outcome(torch.load, "network.pt"),
        "unsafe": outcome(torch.load, "evil.pt"),
        "no argument": outcome(torch.load),
        "wrong argument": outcome(torch.load, "weights.pt", mmap="yes", nonsense=1),
        "keys": outcome(model.load_state_dict, wrong),
        "not strict": outcome(model.load_state_dict, {"unknown": torch.zeros(1)}, strict=False),
        "no dictionary": outcome(model.load_state_dict, 3),
        "shared": outcome(safetensors.torch.save_file, {"a": (shared := torch.zeros(4)), "b": shared}, "shared.safetensors"),
        "missing script": outcome(TORCH.jit.load, "nowhere.pt"),
        "no script": outcome(TORCH.jit.load, "weights.pt"),
        "nowhere to save a script": outcome(TORCH.jit.save, TORCH.jit.script(model), "nowhere/at/all.pt"),
        "no script to save": outcome(TORCH.jit.save, model, "model.pt"),
        "nowhere to save": outcome(torch.save, {}, "nowhere/at/all.pt"),
        "not a device": outcome(model.to, "nonsense"),
        "not a buffer": outcome(model.register_buffer, "a.b", torch.zeros(1)),
        "not a module": outcome(model.add_module, "child", 3),
        "taken": outcome(model.register_parameter, "forward", None),
        "swap": outcome(torch.utils.swap_tensors, torch.zeros(1), 3),
    }


class _RecordsFunctions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        self.calls.append(getattr(function, "__qualname__", None) or repr(function).partition(" at ")[0])
        return function(*arguments, **(options or {}))


class _RecordsOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        self.calls.append(str(function))
        return function(*arguments, **(options or {}))


def _a_models_life() -> None:
    model = Network()
    model.load_state_dict(torch.load("weights.pt"))
    model.load_state_dict(safetensors.torch.load_file("weights.safetensors"), assign=True)
    model.to(torch.float64).half().float()
    model.register_buffer("late", torch.zeros(3))
    model.register_parameter("later", nn.Parameter(torch.zeros(3)))
    model.add_module("latest", nn.Sequential(nn.Linear(2, 2), nn.Embedding(4, 2)))
    model.scale = model.get_buffer("scale") * 2
    scanned(2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    torch.save(model.state_dict(), "out.pt")
    torch.utils.swap_tensors(  # type: ignore[no-untyped-call]
        model.first.bias, nn.Parameter(torch.zeros(8))
    )


@program
def function_mode_records_its_own_calls() -> Any:
    _files()
    with _RecordsFunctions() as mode:
        _a_models_life()
    return mode.calls


@program
def dispatch_mode_records_its_own_calls() -> Any:
    _files()
    with _RecordsOperators() as mode:
        _a_models_life()
    return mode.calls


@program
def profiler_records_its_own_calls() -> Any:
    _files()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        _a_models_life()
    return sorted([each.key, each.count] for each in profiler.key_averages())


@program
def identities() -> Any:
    return [
        torch.load is torch.serialization.load,
        torch.save is torch.serialization.save,
        torch.utils.swap_tensors.__module__,
        nn.Module.to is nn.modules.module.Module.to,
        vars(safetensors.torch)["safe_open"] is safetensors.safe_open,
        io.open is open,
        nn.Linear.load_state_dict is nn.Module.load_state_dict,
        vars(safetensors.torch)["deserialize"] is safetensors.deserialize,
        "from_file" in vars(torch.UntypedStorage),
    ]
