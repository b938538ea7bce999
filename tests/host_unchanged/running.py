"""The child process: runs all programs of a group in one mode and writes down what each observed, a line of JSON each.

`python -m host_unchanged.running GROUP FILE`, in an empty directory, with the mode in the environment.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import inspect
import json
import os
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from host_unchanged.table import STARTED_LATE, MissingError, Mode, Program, programs_of

INTERVAL_SECONDS: Final = 0.05
LONGEST_SECONDS: Final = 400


def start_sidecar() -> None:
    """Start the sidecar as a host does."""
    import gpumodels

    gpumodels.start(interval=INTERVAL_SECONDS)


def stop_sidecar() -> None:
    """Stop the sidecar as a host does."""
    import gpumodels

    gpumodels.stop()


def enter(mode: Mode) -> None:
    """Put a process that the host started into the host's mode; this imports torch."""
    if mode is not Mode.WITHOUT:
        start_sidecar()
    import torch  # noqa: F401

    if mode is Mode.AFTER:
        stop_sidecar()


def main() -> None:
    """Run the group's programs, and write their records to the file."""
    group, path = sys.argv[1:]
    mode = Mode.of_this_process()
    faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
    late = group in STARTED_LATE
    if mode is not Mode.WITHOUT and not late:
        start_sidecar()
    programs = programs_of(group)
    if mode is not Mode.WITHOUT and late:
        start_sidecar()
    if mode is Mode.AFTER:
        _let_it_observe()
        stop_sidecar()
    home = Path.cwd()
    with open(path, "w", encoding="utf-8") as records:
        for program in programs:
            (home / program.name).mkdir()
            os.chdir(home / program.name)
            began = time.monotonic()
            record = _record(program, mode)
            json.dump({"program": program.name, "seconds": time.monotonic() - began, "record": record}, records)
            records.write("\n")
            records.flush()
            os.chdir(home)
    faulthandler.cancel_dump_traceback_later()


def _let_it_observe() -> None:
    """Do work that the sidecar observes before it is stopped, so that it has something to forget."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8))
    model.load_state_dict(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8)).state_dict())
    model.half().float()


def _record(program: Program, mode: Mode) -> dict[str, Any]:
    from host_unchanged import observing

    _forget_what_ran_before()
    record: dict[str, Any] = {}
    with _captured_output(record), warnings.catch_warnings(record=True) as warned:
        descriptors, threads = observing.lasting_descriptors(), observing.threads()
        warnings.simplefilter("always")
        try:
            record["observed"] = _run(program, mode)
        except MissingError as missing:
            record["missing"] = str(missing)
        except BaseException:  # noqa: BLE001  # whatever the host meets is recorded
            record["raised"] = observing.plain(traceback.format_exc())
        record["warnings"] = [f"{each.category.__name__}: {observing.plain(str(each.message))}" for each in warned]
        record["dynamo"] = observing.counters()
        gc.collect()
        left = observing.until_equal(observing.descriptors, descriptors)
        record["descriptors left"] = sorted((Counter(left) - Counter(descriptors)).elements())
        record["descriptors closed"] = sorted((Counter(descriptors) - Counter(left)).elements())
        record["threads left"] = sorted(
            (Counter(observing.until_equal(observing.threads, threads)) - Counter(threads)).elements()
        )
    return record


def _run(program: Program, mode: Mode) -> Any:
    if not inspect.isgeneratorfunction(program.run):
        return program.run()
    if mode is Mode.AFTER:
        start_sidecar()
    steps = program.run()
    try:
        next(steps)
        if mode is Mode.AFTER:
            stop_sidecar()
        next(steps)
    except StopIteration as end:
        return end.value
    finally:
        if mode is Mode.AFTER:
            stop_sidecar()
    raise AssertionError(f"{program.name} yields twice")


def _forget_what_ran_before() -> None:
    import torch

    gc.collect()
    gc.freeze()  # a collection looks through a million objects of torch's otherwise
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if "torch._dynamo.utils" in sys.modules:
        torch._dynamo.reset()
        sys.modules["torch._dynamo.utils"].counters.clear()


@contextlib.contextmanager
def _captured_output(record: dict[str, Any]) -> Iterator[None]:
    """Capture both standard streams in files, output of C++ and of child processes included."""
    from host_unchanged.observing import plain

    saved = [os.dup(1), os.dup(2)]
    names = ("stdout", "stderr")
    for number, name in enumerate(names, 1):
        with open(f"../{name}", "wb") as file:
            os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, (name, descriptor) in enumerate(zip(names, saved, strict=True), 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
            record[name] = plain(Path(f"../{name}").read_text(encoding="utf-8", errors="replace"))


if __name__ == "__main__":
    main()
