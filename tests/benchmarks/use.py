"""What noting the calls of modules costs a forward pass, and what torch's global forward pre-hook would cost instead.

Processes in turn, so that a drift of the machine's speed favours none; in each the least of many rounds of the same passes, in
processor time of the thread that makes them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median
from typing import Final

ROUNDS: Final = 5
MODES: Final = ("without", "beside", "with track_use", "with a hook")

HOST: Final = """
import json, sys, tempfile, time
import torch
from torch import nn
torch.set_num_threads(1)
mode = sys.argv[1]
if mode in ("beside", "with track_use"):
    import gpumodels
    gpumodels.start(directory=tempfile.mkdtemp() + "/gpm", interval=3600, track_use=mode == "with track_use")
    time.sleep(1)
elif mode == "with a hook":
    called = set()
    nn.modules.module.register_module_forward_pre_hook(lambda module, inputs: called.add(id(module)))

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.up, self.act, self.down = nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)

    def forward(self, x):
        return x + self.down(self.act(self.up(self.norm(x))))

class Empty(nn.Module):
    def forward(self, x):
        return x

works = {
    "100 modules that do nothing": (nn.Sequential(*(Empty() for _ in range(99))), torch.zeros(1)),
    "20 blocks of width 64, 101 modules": (nn.Sequential(*(Block(64) for _ in range(20))), torch.zeros(8, 64)),
    "20 blocks of width 512, 101 modules": (nn.Sequential(*(Block(512) for _ in range(20))), torch.zeros(64, 512)),
}
found = {}
with torch.no_grad():
    for name, (model, batch) in works.items():
        least = float("inf")
        for _ in range(40):
            began = time.thread_time()
            for _ in range(5):
                model(batch)
            least = min(least, (time.thread_time() - began) / 5)
        found[name] = least
print(json.dumps(found))
"""


def main() -> None:
    """Print a line for each work."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(ROUNDS):
        for mode in MODES:
            run = subprocess.run([sys.executable, "-c", HOST, mode], capture_output=True, text=True, check=True)
            for work, seconds in json.loads(run.stdout).items():
                found.setdefault(work, {}).setdefault(mode, []).append(seconds)
    for work, by_mode in found.items():
        without = median(by_mode["without"])
        print(f"{work}: {without * 1e6:.0f} µs a forward pass without the sidecar")
        for mode in MODES[1:]:
            seconds = median(by_mode[mode])
            print(f"  {mode}: {seconds / without:.2f} times as long, {(seconds - without) / 100 * 1e6:+.2f} µs a module")
