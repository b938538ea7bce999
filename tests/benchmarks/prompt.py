"""How late the list of models is: models are loaded in turn and the oldest dropped, until the file lists those that are left.

Each host is a process of its own, on this build and on the one before presence and names were apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.builds import builds
from gpumodels_shared.decoding import decode
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.schema import Model, Snapshot

LOADS: Final = 10
KEPT: Final = 4
CHANGES: Final = 6
LONGEST_SECONDS: Final = 90.0

HOST: Final = """
import json, sys, time
import torch
from torch import nn
from safetensors.torch import load_file, save_file
import gpumodels
folder, blocks, files, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)

class Leaf(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width), requires_grad=False)

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o, self.up, self.down, self.norm = (Leaf() for _ in range(7))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))

plain = Net().state_dict()
for number in range(files):
    generator = torch.Generator().manual_seed(number)
    made = {key: torch.randn(value.shape, generator=generator) for key, value in plain.items()}
    save_file(made, f"{folder}/m{number}.safetensors")
del plain, made
gpumodels.start(directory=folder + "/gpm")
dtypes = (torch.float32, torch.float16, torch.bfloat16)
alive, number = [], 0

def load():
    global number
    net = Net()
    net.load_state_dict(load_file(f"{folder}/m{number % files}.safetensors"))
    alive.append((f"m{number % files}", net.to(dtypes[number % 3])))
    number += 1

for line in sys.stdin:
    count, keep = json.loads(line)
    for _ in range(count):
        load()
        del alive[:-keep]
        loaded_at = time.monotonic()
        time.sleep(0.7)  # a load of many gigabytes takes its time
    said = [[name, sum(p.nbytes for p in net.parameters())] for name, net in alive]
    print(json.dumps([loaded_at, said]), flush=True)
"""


ONE_OF_MANY: Final = """
import statistics, time
import torch
from torch import nn
try:
    from gpumodels.models.allocators import TorchDevices
    from gpumodels.support.failures import Failures
except ImportError:  # the earlier build has no rooms
    from gpumodels.devices import TorchDevices
    from gpumodels.failures import Failures
from gpumodels.observer import Observer
torch.set_num_threads(1)

def net():
    return nn.Sequential(*(nn.Sequential(nn.Linear(96, 96), nn.LayerNorm(96)) for _ in range(16)))

observer = Observer(TorchDevices(torch), lambda: None, lambda: None, Failures())
observer.attach_when_possible()
update = observer.update if hasattr(observer, "update") else observer.look  # the earlier build's name
others = [net() for _ in range(100)]
one = nn.Linear(600, 600)
update()
taken = []
for number in range(40):
    observer.budget._saved = 0.25  # whatever was spent before
    one.half() if number % 2 == 0 else one.float()
    began = time.thread_time()
    update()
    taken.append(time.thread_time() - began)
print(statistics.median(taken[5:]))
"""


def main() -> None:
    """Print what it costs to see one changed model among many, then a line for each size of model and build."""
    with builds() as roots:
        seconds = {build: seconds_to_see_one(root) for build, root in roots.items()}
        line = ", ".join(f"{build} {taken * 1e3:.2f} ms" for build, taken in seconds.items())
        print(f"processor time to see one changed model among 100 of 49 modules: {line} (target 1 ms)", flush=True)
        for blocks, files, changes, targets in (
            (60, 12, CHANGES, (1.5, 10.0)),
            (156, 4, 3, (2.0, 10.0)),
            (1250, 4, 2, (8.0, 20.0)),
        ):
            for build, root in roots.items():
                late = lateness(root, blocks, files, changes)
                presence, names = max(one[0] for one in late), max(one[1] for one in late)
                modules = 8 * blocks + 2
                print(
                    f"ten {modules:,}-module models in turn, four kept, {build}: list true {presence:.1f} s, "
                    f"names {names:.1f} s after the last load, worst of {changes} (target {targets[0]:g} and {targets[1]:g})",
                    flush=True,
                )


def seconds_to_see_one(root: Path) -> float:
    """Processor time of an update in which one model of a hundred has changed, the median of many."""
    paths = os.pathsep.join(str(root / part) for part in ("sidecar", "shared"))
    done = subprocess.run(
        [sys.executable, "-c", ONE_OF_MANY], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def lateness(root: Path, blocks: int, files: int, changes: int) -> list[tuple[float, float]]:
    """For each change, seconds from its end until the models are right, and until their names are right."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "gpm").mkdir(mode=0o700)
        paths = os.pathsep.join(str(root / part) for part in ("sidecar", "shared"))
        with subprocess.Popen(
            [sys.executable, "-c", HOST, folder, str(blocks), str(files), "2048"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            found = [one_change(child.stdin, child.stdout, Path(folder) / "gpm") for _ in range(changes)]
            child.stdin.close()
        return found


def one_change(asks: IO[str], answers: IO[str], directory: Path) -> tuple[float, float]:
    """Have models loaded and dropped, and measure the two delays of `lateness`."""
    asks.write(json.dumps([LOADS, KEPT]) + "\n")
    asks.flush()
    ended_at, alive = json.loads(answers.readline())
    sizes = sorted(size for _, size in alive)
    presence = seconds_until(directory, lambda models: sorted(model.resident_bytes for model in models) == sizes, ended_at)
    named = sorted((name, size) for name, size in alive)
    names = seconds_until(
        directory, lambda models: sorted((model.name, model.resident_bytes) for model in models) == named, ended_at
    )
    return presence, names


def seconds_until(directory: Path, is_true: Callable[[Sequence[Model]], bool], since: float) -> float:
    """Seconds from `since` until it is true of the published models, or LONGEST_SECONDS."""
    while time.monotonic() - since < LONGEST_SECONDS:
        snapshot = latest(directory)
        if snapshot is not None and is_true([model for model in snapshot.models if model.class_name == "Net"]):
            break
        time.sleep(0.02)
    return time.monotonic() - since


def latest(directory: Path) -> Snapshot | None:
    """The newest snapshot in the directory's only file."""
    names: list[Any] = list(snapshot_files(directory))
    if not names:
        return None
    reader = SnapshotReader(directory / names[0], os.geteuid())
    try:
        payload = reader.latest()
        return None if payload is None else decode(payload.data)
    finally:
        reader.close()
