"""What observing costs beside what it cost before: registration, load and step, with this build and an earlier one, in turns.

Each run is a process of its own, which measures itself with the sidecar and without, in pairs. The older build comes out of the
repository's history; where that isn't there, the part says so and is left out.
"""

from __future__ import annotations

import gc
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

BEFORE: Final = "e581971"
"""The build that is compared with."""
ROOT: Final = Path(__file__).parents[2]
RUNS: Final = 4
PAIRS: Final = 6
MODULES: Final = 4_000
STEPS: Final = 60
SETTLE_SECONDS: Final = 0.3

Figures = Mapping[str, tuple[float, float]]
"""Seconds with the sidecar and without, by what was measured."""


def main() -> None:
    """A line for each: what it costs now, what it cost before, and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        before = the_build_of(BEFORE, Path(folder) / "before")
        if before is None:
            print(f"skipped: no commit {BEFORE} here to compare with (a shallow clone, or no repository)")
            return
        runs: dict[Path, list[Figures]] = {ROOT: [], before: []}
        for number in range(RUNS):
            for build in (ROOT, before) if number % 2 else (before, ROOT):
                runs[build].append(measured(build))
        for name in runs[ROOT][0]:
            now, then = (extra(runs[build], name) for build in (ROOT, before))
            print(
                f"{name}: × {now:.3f} beside the sidecar, × {then:.3f} beside that of {BEFORE}; "
                f"now {now / then:.3f} of then (target ≤ 1)",
                flush=True,
            )


def extra(runs: list[Figures], name: str) -> float:
    """How many times as long it takes beside the sidecar as without: the median of the runs."""
    return statistics.median(run[name][0] / run[name][1] for run in runs)


def the_build_of(commit: str, directory: Path) -> Path | None:
    """Its sidecar and what both sides share, unpacked there; None where git or the commit is missing."""
    command = ["git", "-C", str(ROOT), "archive", commit, "sidecar", "shared"]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return None
    if done.returncode != 0:
        return None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive.getmembers():  # by hand: older Pythons know no filters, and this archive holds plain files alone
            if member.isfile() and (content := archive.extractfile(member)) is not None:
                path = directory / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
    return directory


def measured(build: Path) -> Figures:
    """What a process says that imports this build."""
    paths = [build / "sidecar", build / "shared", ROOT / "tests"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    code = "from benchmarks.observing import measure; measure()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    figures: dict[str, tuple[float, float]] = {name: (one, other) for name, (one, other) in json.loads(done.stdout).items()}
    return figures


def measure() -> None:
    """In the child: each kind of work with and without, as one JSON object."""
    import torch
    from safetensors.torch import load_file, save_file
    from torch import nn

    import gpumodels

    torch.set_num_threads(1)

    def modules() -> nn.Module:
        with torch.device("meta"):
            return nn.Sequential(*(nn.Linear(8, 8) for _ in range(MODULES)))

    model = nn.Sequential(*(nn.Linear(724, 724) for _ in range(64)))
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    network = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    batch = torch.randn(1, 64, 256)

    def step() -> None:
        with torch.no_grad():
            for _ in range(STEPS):
                network(batch)

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "gpumodels"
        path = Path(folder) / "model.safetensors"
        save_file(model.state_dict(), path)

        def load() -> None:
            model.load_state_dict(load_file(path))

        def timed(work: Callable[[], object], clock: Callable[[], float], beside: bool) -> float:
            if beside:
                gpumodels.start(directory=directory, interval=0.1)
                while not any(directory.glob("*.gpm")):
                    time.sleep(0.01)
                time.sleep(SETTLE_SECONDS)  # what starting costs is another question
            gc.collect()
            started = clock()
            kept = work()
            taken = clock() - started
            if beside:
                gpumodels.stop()
            del kept
            return taken

        kinds: dict[str, tuple[Callable[[], object], Callable[[], float]]] = {
            f"registration, {MODULES:,} modules made": (modules, time.thread_time),
            "load, 134 MB into a model": (load, time.thread_time),
            f"{STEPS} steps": (step, time.perf_counter),
        }
        figures: dict[str, tuple[float, float]] = {}
        for name, (work, clock) in kinds.items():
            work()
            taken: dict[bool, list[float]] = {True: [], False: []}
            for pair in range(PAIRS):
                for beside in (pair % 2 == 0, pair % 2 == 1):
                    taken[beside].append(timed(work, clock, beside))
            figures[name] = (min(taken[True]), min(taken[False]))  # what nothing else disturbed
    print(json.dumps(figures))
