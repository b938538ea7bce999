"""Hosts that send functions and models to other processes, and ask functions about themselves."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import io
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import torch
from torch import load as load_bound_here
from torch import nn

from host_unchanged.observing import bits, function_facts, outcome, pickle_bits, plain, scanned
from host_unchanged.running import enter
from host_unchanged.table import Mode, need, program

FUNCTIONS: Final = {
    "torch": [
        "load",
        "save",
        "UntypedStorage.from_file",
        "UntypedStorage.new",
        "Tensor.to",
        "Tensor.copy_",
        "Tensor.__setstate__",
    ],
    "torch.serialization": ["load", "save", "_load", "_legacy_load", "_save", "_legacy_save"],
    "torch.utils": ["swap_tensors"],
    "torch.nn": [
        "Module.__init__",
        "Module.__setattr__",
        "Module.__setstate__",
        "Module._apply",
        "Module.add_module",
        "Module.half",
        "Module.load_state_dict",
        "Module.register_buffer",
        "Module.register_module",
        "Module.register_parameter",
        "Module.to",
    ],
    "torch.jit": ["load", "RecursiveScriptModule.__init__", "script", "trace"],
    "torch.optim": ["Optimizer.__init__", "AdamW.step"],
    "safetensors.torch": ["load", "load_file", "load_model", "save", "save_file", "save_model", "safe_open", "deserialize"],
    "safetensors.numpy": ["load_file", "safe_open"],
    "builtins": ["open"],
    "io": ["open"],
    "os": ["open", "replace", "mmap"],
    "mmap": ["mmap"],
    "threading": ["Thread.start", "Thread.__init__"],
    "importlib": ["import_module"],
    "subprocess": ["Popen.__init__"],
}
"""Functions that a sidecar might be tempted to replace."""


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.register_buffer("scale", torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(torch.relu(self.first(x))) * self.scale
        return out


def _loaded() -> Network:
    torch.save(Network().state_dict(), "source.pt")
    model = Network()
    model.load_state_dict(torch.load("source.pt"))
    scanned()
    return model


def _paths(count: int = 2) -> list[str]:
    paths = []
    for index in range(count):
        paths.append(f"{index}.pt")
        torch.save(Network().state_dict(), paths[-1])
    return paths


@program
def functions_say_the_same_of_themselves() -> Any:
    facts = {}
    for module_name, names in FUNCTIONS.items():
        if importlib.util.find_spec(module_name.partition(".")[0]) is None:
            continue
        for name in names:
            thing: Any = importlib.import_module(module_name)
            for part in name.split("."):
                thing = getattr(thing, part, None)
            facts[f"{module_name}.{name}"] = function_facts(thing)
    return facts


@program
def class_dictionaries_hold_the_same() -> Any:
    classes = [nn.Module, torch.Tensor, nn.Parameter, torch.UntypedStorage, torch.TypedStorage, torch.optim.Optimizer]
    return [{name: type(value).__name__ for name, value in sorted(vars(each).items())} for each in classes]


@program
def partial_of_torch_load() -> Any:
    (path,) = _paths(1)
    partial = functools.partial(torch.load, map_location="cpu")
    return outcome(lambda: [pickle.dumps(partial), pickle.loads(pickle.dumps(partial))(path)])


@program
def bound_methods_pickled() -> Any:
    model = _loaded()
    methods = [model.load_state_dict, model.to, model.half, model.register_buffer]
    return [outcome(lambda method: pickle_bits(pickle.dumps(method)), method) for method in methods]


@program
def storage_from_file_pickled() -> Any:
    return outcome(pickle.dumps, torch.UntypedStorage.from_file)


@program
def pool_of_spawned_processes_loads() -> Any:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=enter, initargs=(Mode.of_this_process(),)) as pool:
        return outcome(lambda: list(pool.map(torch.load, _paths())))


@program
def forkserver_loads() -> Any:
    context = multiprocessing.get_context("forkserver")
    with context.Pool(1, enter, (Mode.of_this_process(),)) as pool:
        return outcome(lambda: pool.map(functools.partial(torch.load, mmap=True), _paths()))


@program
def forked_process_loads() -> Any:
    paths = _paths()
    model = _loaded()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writing, "wb") as stream:
            pickle.dump([bits(torch.load(path)) for path in paths] + [bits(model(torch.ones(1, 8)))], stream)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = pickle.load(stream)
    return [told, os.waitpid(child, 0)[1]]


def _shared_by_child(queue: Any, model: nn.Module) -> None:
    enter(Mode.of_this_process())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    queue.put(bits(model))


@program
def torch_multiprocessing_shares_memory() -> Any:
    model = _loaded()
    model.share_memory()
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_shared_by_child, args=(queue, model))
    child.start()
    told = queue.get()
    child.join()
    queue.close()
    queue.join_thread()
    return [told, bits(model), child.exitcode, [parameter.untyped_storage().is_shared() for parameter in model.parameters()]]


class _Squares(torch.utils.data.Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(float(index * index))


@program
def data_loader_workers() -> Any:
    loader = torch.utils.data.DataLoader(_Squares(), batch_size=2, num_workers=2, multiprocessing_context="fork")
    return [bits(batch) for batch in loader]


@program
def models_pickled_and_copied() -> Any:
    model = _loaded()
    stream = io.BytesIO()
    torch.save(model, stream)
    copied, shallow = copy.deepcopy(model), copy.copy(model)
    return {
        "pickle": pickle_bits(pickle.dumps(model)),
        "save": bits(stream.getvalue()),
        "unpickled": bits(pickle.loads(pickle.dumps(model))),
        "attributes": [sorted(vars(each)) for each in (model, copied, shallow)],
        "copied": pickle_bits(pickle.dumps(copied)),
        "shallow": [shallow.first is model.first, bits(shallow)],
        "parameters": [sorted(vars(each)) for each in copied.parameters()],
    }


@program
def optimizer_pickled() -> Any:
    model = _loaded()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 8)).sum().backward()
    optimizer.step()
    scanned()
    return [pickle_bits(pickle.dumps(optimizer)), sorted(vars(optimizer)), bits(optimizer.state_dict())]


def _by_value(library: str) -> Any:
    pickler = need(library)

    def load_all(paths: list[str]) -> list[Any]:
        return [load_bound_here(path, map_location="cpu") for path in paths]

    load_all.__module__ = "__main__"  # as in a notebook: it travels by value
    return [outcome(lambda: len(pickler.dumps(load_all))), _unpickled_elsewhere(pickler.dumps, library, load_all)]


_ELSEWHERE: Final = """
import os, pickle, sys
import host_unchanged.running as running
from host_unchanged.table import Mode
import torch
files = [open(f"mine{index}", "w+") for index in range(200)]
with open("travelled", "rb") as stream:
    load_all = __import__(sys.argv[1]).loads(stream.read())
loaded = load_all(["0.pt", "1.pt"])
del load_all
import gc; gc.collect()
for index, file in enumerate(files):
    file.write(str(index)); file.flush(); os.fstat(file.fileno()); file.close()
print([sorted(each) for each in loaded], "gpumodels" in sys.modules)
"""


def _unpickled_elsewhere(dumps: Any, library: str, function: Any) -> Any:
    """Unpickle and call it in a fresh process without a sidecar."""
    import subprocess
    import sys
    from pathlib import Path

    _paths()
    try:
        Path("travelled").write_bytes(dumps(function))
    except Exception as error:  # noqa: BLE001  # seen by the caller too
        return plain(repr(error))
    done = subprocess.run([sys.executable, "-c", _ELSEWHERE, library], capture_output=True, text=True, check=False)
    return [done.returncode, plain(done.stdout), plain(done.stderr)]


@program
def cloudpickle_of_a_function_that_loads() -> Any:
    size, elsewhere = _by_value("cloudpickle")
    return [size, elsewhere]


@program
def dill_of_a_function_that_loads() -> Any:
    return _by_value("dill")


@program
def cloudpickle_of_torchs_functions() -> Any:
    cloudpickle = need("cloudpickle")
    functions = [torch.load, torch.save, nn.Module.load_state_dict, nn.Module.to, torch.utils.swap_tensors]
    return [outcome(cloudpickle.dumps, function) for function in functions]


@program
def joblib_processes_and_files() -> Any:
    joblib = need("joblib")
    model = _loaded()
    joblib.dump({"model": model, "reader": torch.load}, "dumped.joblib")
    with open("dumped.joblib", "rb") as stream:
        dumped = pickle_bits(stream.read())
    loaded = joblib.Parallel(n_jobs=1)(joblib.delayed(torch.load)(path) for path in _paths())
    return [dumped, bits(loaded), bits(joblib.load("dumped.joblib")["model"])]


@program
def signatures_bind() -> Any:
    signature = inspect.signature(torch.load)
    return [
        plain(str(signature.bind("f", map_location="cpu").arguments)),
        inspect.getfile(torch.load) == torch.serialization.__file__,
    ]
