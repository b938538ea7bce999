"""What observing costs the host's own threads, in this build and in the one that wrapped functions, against no sidecar.

Processes in turn, so that a drift of the machine's speed favours none; in each the least of many rounds of the same work, in
processor time of the thread that does it. The sidecar looks once and then rests: its own thread is another benchmark's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.builds import builds

ROUNDS: Final = 7

HOST: Final = """
import json, os, sys, tempfile, time
import torch
from torch import nn
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
folder = tempfile.mkdtemp()
if sys.argv[1] != "without":
    import gpumodels
    gpumodels.start(directory=folder + "/gpm", interval=3600)
    time.sleep(1)

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(64, 64)
        self.down = nn.Linear(64, 64)
        self.register_buffer("scale", torch.ones(64))

def built():
    with torch.device("meta"):
        return nn.Sequential(*(Layer() for _ in range(200)))

class Step(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(64, 64) for _ in range(8)))
        self.register_buffer("usage", torch.zeros(64))

    def forward(self, x):
        self.usage = self.usage * 0.9 + x.mean(0)
        return self.layers(x)

model = built().to_empty(device="cpu")
for parameter in model.parameters():
    nn.init.uniform_(parameter)
save_file(model.state_dict(), folder + "/m.safetensors")
torch.save(model.state_dict(), folder + "/m.pt")
step, batch = Step(), torch.randn(8, 64)

def steps():
    with torch.no_grad():
        for _ in range(50):
            step(batch)

works = {
    "600 modules made": built,
    "1,000 tensors loaded from safetensors": lambda: model.load_state_dict(load_file(folder + "/m.safetensors")),
    "1,000 tensors loaded from a pickle": lambda: model.load_state_dict(torch.load(folder + "/m.pt")),
    "1,000 tensors moved twice": lambda: model.double().float(),
    "50 steps, a buffer assigned in each": steps,
}
found = {}
for name, work in works.items():
    least = float("inf")
    for _ in range(15):
        began = time.thread_time()
        work()
        least = min(least, time.thread_time() - began)
    found[name] = least
print(json.dumps(found))
"""


def main() -> None:
    """Print a line for each kind of work."""
    with builds() as roots:
        kinds = {"without": roots["today"], "observing": roots["today"]}
        if "before" in roots:
            kinds["wrapping"] = roots["before"]
        seconds: dict[str, list[dict[str, float]]] = {build: [] for build in kinds}
        for _ in range(ROUNDS):
            for build, root in kinds.items():
                seconds[build].append(one_run(build, root))
    for work in seconds["without"][0]:
        ratios = {
            build: median(one[work] / plain[work] for one, plain in zip(runs, seconds["without"], strict=True))
            for build, runs in seconds.items()
        }
        alone = median(run[work] for run in seconds["without"])
        beside = f", wrapping × {ratios['wrapping']:.3f}" if "wrapping" in ratios else ""
        print(f"{work}: observing × {ratios['observing']:.3f}{beside} ({alone * 1e3:.2f} ms without)", flush=True)


def one_run(build: str, root: Path) -> dict[str, float]:
    """Seconds of processor time by kind of work, in a process of its own."""
    paths = os.pathsep.join(str(root / part) for part in ("sidecar", "shared"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HOST, build],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
