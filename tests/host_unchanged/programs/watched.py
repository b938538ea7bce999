"""Hosts that trace, profile or debug themselves, and that inspect what the interpreter holds."""

from __future__ import annotations

import builtins
import cProfile
import faulthandler
import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from host_unchanged.observing import bits, descriptors, plain, scanned, threads
from host_unchanged.table import MissingError, Mode, need, program

_BESIDE = Mode.of_this_process() is Mode.BESIDE


def _a_models_life() -> Any:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    save_file(model.state_dict(), "weights.safetensors")
    torch.save(model.state_dict(), "weights.pt")
    model.load_state_dict(load_file("weights.safetensors"))
    model.load_state_dict(torch.load("weights.pt"))
    model.half().float()
    return bits(model(torch.ones(1, 8)))


def _counted(filename: str) -> bool:
    """Whether events of this file are compared: of the host and of torch. Tools that trace everything see our calls, too."""
    watched = ("/watched.py", "/safetensors/torch.py", "/torch/serialization.py", "/torch/optim/")
    return any(part in filename for part in watched) or "/torch/nn/modules/" in filename


def _named(code: CodeType) -> str:
    return f"{Path(code.co_filename).name}:{code.co_firstlineno} {code.co_name}"


class _Events:
    """Counts calls and returns of the host's and torch's functions, and lines of the host's; nothing that we call."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        caller = frame.f_back.f_code.co_filename if frame.f_back is not None else ""
        if event == "line" and code.co_filename == __file__:
            self.counts[f"line {frame.f_lineno}"] += 1
        elif event in ("call", "return") and _counted(code.co_filename) and "/gpumodels/" not in caller:
            self.counts[f"{event} {_named(code)}"] += 1
        return self

    def told(self) -> dict[str, int]:
        return dict(sorted(self.counts.items()))


@program
def traced_by_settrace() -> Any:
    _a_models_life()
    events = _Events()
    sys.settrace(events)
    try:
        result = _a_models_life()
        scanned()
    finally:
        sys.settrace(None)
    return [result, events.told()]


@program
def profiled_by_setprofile() -> Any:
    _a_models_life()
    events = _Events()
    sys.setprofile(events)
    try:
        result = _a_models_life()
    finally:
        sys.setprofile(None)
    return [result, events.told()]


@program
def a_trace_function_stays_in_place() -> Any:
    events = _Events()
    threading.settrace(events)
    sys.settrace(events)
    _a_models_life()
    scanned()
    kept = sys.gettrace() is events
    sys.settrace(None)
    threading.settrace(None)
    return [kept, sys.gettrace(), sys.getprofile()]


@program
def profiled_by_cprofile() -> Any:
    _a_models_life()
    profile = cProfile.Profile()
    profile.enable()
    time.sleep(0.5)  # a call in which the sidecar notices the profiler, and comes to rest, may be counted twice
    result = _a_models_life()
    profile.disable()
    calls = {}
    for entry in profile.getstats():
        if not isinstance(entry.code, str) and _counted(entry.code.co_filename):
            calls[_named(entry.code)] = entry.callcount
    return [result, calls]


@program
def covered() -> Any:
    coverage = need("coverage")
    covering = coverage.Coverage(data_file=None, include=["*/watched.py", "*/safetensors/torch.py"], config_file=False)
    covering.start()
    result = _a_models_life()
    covering.stop()
    data = covering.get_data()
    return [result, {Path(name).name: sorted(data.lines(name)) for name in sorted(data.measured_files())}]


@program
def observed_by_sys_monitoring() -> Any:
    monitoring: Any = getattr(sys, "monitoring", None)
    if monitoring is None:
        raise MissingError("sys.monitoring came with Python 3.12")
    counts: Counter[str] = Counter()

    def note(code: Any, *_: Any) -> Any:
        if _counted(code.co_filename):
            counts[_named(code)] += 1

    def note_and_disable(code: Any, *_: Any) -> Any:
        note(code)
        return monitoring.DISABLE

    found = {}
    for name, tool, callback in (("all", monitoring.PROFILER_ID, note), ("once", monitoring.COVERAGE_ID, note_and_disable)):
        counts.clear()
        monitoring.use_tool_id(tool, "host")
        events = monitoring.events
        for event in (events.PY_START, events.PY_RETURN, events.PY_UNWIND):
            monitoring.register_callback(tool, event, callback)
        monitoring.set_events(tool, events.PY_START | events.PY_RETURN | (events.PY_UNWIND if name == "all" else 0))
        _a_models_life()
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
        found[name] = dict(sorted(counts.items()))
        monitoring.restart_events()
    return found


@program
def tracemalloc_sees_the_hosts_lines() -> Any:
    tracemalloc.start()
    kept = [bytearray(1000) for _ in range(10)]
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, __file__)])
    tracemalloc.stop()
    large = [each for each in snapshot.statistics("lineno") if each.size > 9000]
    return [len(kept), [[each.traceback[0].lineno, each.count >= 10] for each in large]]


@program
def faulthandler_dumps_this_thread() -> Any:
    with open("dump", "w+") as file:
        faulthandler.dump_traceback(file, all_threads=False)
        file.seek(0)
        return plain(file.read())


@program
def py_spy_dumps_the_main_thread() -> Any:
    scripts = shutil.which("py-spy", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
    if scripts is None:
        raise MissingError("py-spy isn't installed")
    with open("dump", "w") as out, open("errors", "w") as errors:
        exit_code = subprocess.Popen([scripts, "dump", "--pid", str(os.getpid())], stdout=out, stderr=errors).wait()
    if exit_code != 0:
        raise MissingError(f"py-spy may not read processes here: {Path('errors').read_text()[:200]}")
    main = Path("dump").read_text().partition('"MainThread"')[2].partition("Thread ")[0]
    return [plain(line).strip() for line in main.splitlines()[1:]]


def _is_cuda_initialized() -> bool:
    cuda: Any = torch.cuda
    return bool(cuda.is_initialized())


@program
def what_the_interpreter_holds() -> Any:
    _a_models_life()
    scanned()
    loggers = sorted(name for name in logging.Logger.manager.loggerDict if not name.startswith("gpumodels"))
    return {
        "meta path": [plain(repr(each)) for each in sys.meta_path if not (_BESIDE and "gpumodels" in repr(each))],
        "path hooks": [plain(repr(each)) for each in sys.path_hooks],
        "path": [plain(each) for each in sys.path],
        "threads": threads(),
        "descriptors": [each for each in descriptors() if not (_BESIDE and each.startswith("/proc/"))],
        "collector": [len(gc.callbacks), gc.isenabled(), gc.get_threshold()],
        "excepthooks": [sys.excepthook is sys.__excepthook__, threading.excepthook is threading.__excepthook__],
        "signals": [plain(repr(signal.getsignal(each))) for each in sorted(signal.valid_signals())],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "loggers": loggers,
        "log handlers": [len(logging.root.handlers), logging.root.level, logging.lastResort is not None],
        "warnings": [plain(repr(each)) for each in warnings.filters],
        "environment": {
            name: plain(value) for name, value in sorted(os.environ.items()) if "GPUMODELS" not in name and "MODE" not in name
        },
        "builtins": sorted(vars(builtins)),
        "switching": sys.getswitchinterval(),
        "recursion": sys.getrecursionlimit(),
        "trace": [repr(sys.gettrace()), repr(sys.getprofile())],
        "umask": [os.umask(0o22), os.umask(0o22)],
        "torch modules": sorted(name for name in sys.modules if name.partition(".")[0] in ("torch", "safetensors", "numpy")),
        "torch": [_is_cuda_initialized(), torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled()],
    }


@program
def a_forked_child_holds_nothing_more() -> Any:
    scanned()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told = f"{[each.name for each in threading.enumerate()]} {threading.active_count()}"
        open_files = sorted(set(descriptors()) - {plain(os.readlink(f"/proc/self/fd/{writing}"))})  # noqa: PTH115
        mapped = sorted({line.split()[5] for line in Path("/proc/self/maps").read_text().splitlines() if ".gpm" in line})
        os.write(writing, f"{told} {open_files} {mapped}".encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        told = stream.read()
    return [plain(told), os.waitpid(child, 0)[1]]


@program
def exceptions_of_threads_and_finalizers() -> Any:
    class Raises(nn.Linear):
        def __del__(self) -> None:
            raise ValueError("from a finalizer")

    model = Raises(2, 2)
    scanned()
    thread = threading.Thread(target=lambda: 1 / 0, name="mine")
    thread.start()
    thread.join()
    del model
    return None
