"""What the first ten seconds after `start()` cost a host of 40,000 modules: matrix products, with and without, in turn."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.builds import builds

PAIRS: Final = 3
MODULES: Final = 40_000

HOST: Final = """
import json, sys, time
import torch
from torch import nn
from benchmarks.scanning import a_model
folder, mode, modules = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = a_model(modules)
left, right = torch.randn(1100, 1100), torch.randn(1100, 1100)

def step():
    began = time.perf_counter()
    left @ right
    return time.perf_counter() - began

for _ in range(20):
    step()
if mode == "beside":
    import gpumodels
    gpumodels.start(directory=folder)
until = time.perf_counter() + 10
taken = []
while time.perf_counter() < until:
    taken.append(step())
print(json.dumps(taken))
"""


def main() -> None:
    """Print a line for each build."""
    with builds() as roots:
        for build, root in roots.items():
            slower: list[float] = []
            later: list[float] = []
            for _ in range(PAIRS):
                plain, beside = steps(root, "without"), steps(root, "beside")
                slower.append((statistics.median(beside) / statistics.median(plain) - 1) * 100)
                later.append((percentile(beside) - percentile(plain)) * 1e3)
            print(
                f"step of {statistics.median(plain) * 1e3:.0f} ms in the first ten seconds, {MODULES:,} modules, {build}: median "
                f"{statistics.median(slower):+.1f} % (target ≤ +5 %), p99 {statistics.median(later):+.1f} ms (target ≤ +3 ms)",
                flush=True,
            )


def steps(root: Path, mode: str) -> list[float]:
    """Seconds that each step took, in a process of its own."""
    paths = os.pathsep.join(str(place) for place in (root / "sidecar", root / "shared", Path(__file__).resolve().parents[1]))
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", HOST, folder, mode, str(MODULES)],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=True,
        )
    return list(json.loads(done.stdout))


def percentile(values: list[float]) -> float:
    """The 99th percentile of these seconds."""
    return sorted(values)[int(len(values) * 0.99)]
