"""`gpumodels run` before the launchers that people use: each rank is a row with its number, and all of them one job."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from gpumodels_tui.catalogue.facts import CatalogueState
from gpumodels_tui.sources.feed import FeedState, ProcessState, SnapshotFeed
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.view.builder import build_view
from gpumodels_tui.view.device_names import process_title
from gpumodels_tui.view.listing import entries
from launched import environment
from processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WHOLE_BYTES: Final = 4 * (512 * 512 + 512) * 4
"""Of the model below."""
BIN: Final = Path(sys.executable).parent
ACCELERATE: Final = ("--cpu", "--num_processes=1", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no")
TRAIN: Final = """
import os, sys, time
import torch, torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(512, 512) for _ in range(4))
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

dist.init_process_group("gloo")
model = Net()
for block in model.blocks:
    fully_shard(block, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
model(torch.randn(2, 512)).sum().backward()
if dist.get_rank() == 0:
    print("trained", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
dist.destroy_process_group()
"""


@contextmanager
def launched(folder: Path, *command: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """`gpumodels run` with this command, until the block ends; then the training ends too."""
    (folder / "finetune.py").write_text(TRAIN)
    with subprocess.Popen(
        [sys.executable, "-m", "gpumodels", "run", *command],
        cwd=folder,
        env=environment(folder, OMP_NUM_THREADS="1", GPUMODELS_INTERVAL="0.3", **more),
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            (folder / "done").touch()
            try:
                child.wait(60)
            finally:
                child.kill()


def ranks_of(state: FeedState) -> dict[int, ProcessState]:
    """The processes with a model, by rank."""
    told = {}
    for process in state.processes:
        if process.snapshot is not None and any(model.class_name.endswith("Net") for model in process.snapshot.models):
            told[-1 if process.snapshot.process.rank is None else process.snapshot.process.rank] = process
    return told


def published(folder: Path, ranks: int) -> FeedState:
    """All snapshot files, once so many ranks are among them, each with its own part of the model and no more."""
    feed = SnapshotFeed([folder / "gpm"])
    states: list[FeedState] = []

    def all_there() -> bool:
        states.append(feed.poll())
        held = [
            model.resident_bytes
            for process in ranks_of(states[-1]).values()
            for model in (process.snapshot.models if process.snapshot is not None else ())
        ]
        return len(held) == ranks and max(held) < 1.1 * WHOLE_BYTES / ranks and sum(held) == WHOLE_BYTES  # all is split

    try:
        wait_until(all_there, 60)
    finally:
        feed.close()
    return states[-1]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "launcher",
    [[str(BIN / "torchrun")], ["-m", "torch.distributed.run"]],
    ids=["torchrun", "-m torch.distributed.run"],
)
def test_four_ranks_of_a_sharded_model_are_four_labelled_processes_and_one_group(launcher: list[str], tmp_path: Path) -> None:
    processes = ["--nproc-per-node=4", f"--master-port={free_port()}"]
    with launched(tmp_path, *launcher, *processes, "finetune.py", str(tmp_path / "done")) as child:
        state = published(tmp_path, 4)
        ranks = ranks_of(state)
        assert sorted(ranks) == [0, 1, 2, 3]
        titles = {rank: process_title(process) for rank, process in ranks.items()}
        assert titles == {rank: f"finetune.py (rank {rank}) {process.pid}" for rank, process in ranks.items()}
        jobs = [process.snapshot.process.job for process in ranks.values() if process.snapshot is not None]
        assert {(job.launcher, job.world_size) for job in jobs if job is not None} == {("torchrun", 4)}
        assert sorted(job.local_rank or 0 for job in jobs if job is not None) == [0, 1, 2, 3]
        view = build_view(state, HardwareState(), CatalogueState())
        groups = [entry.group for entry in entries(view.devices) if entry.group is not None]
        assert [(len(group.sizes), group.counted) for group in groups] == [(4, "4 ranks")]
        assert sum(groups[0].sizes) == WHOLE_BYTES
        told = subprocess.run(
            [sys.executable, "-m", "gpumodels_tui", "--json", "--dir", str(tmp_path / "gpm")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=90,
            check=True,
        )
        document = json.loads(told.stdout)
        of_ranks = [process["job"] for process in document["processes"] if process["job"] and process["job"]["rank"] is not None]
        assert [len(job["ranks"]) for job in of_ranks] == [4, 4, 4, 4]
        assert {job["imbalance"] < 0.1 for job in of_ranks} == {True}
    assert child.returncode == 0


def test_what_accelerate_launch_starts_is_served(tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text("""
import threading, torch
print("gpumodels" in [thread.name for thread in threading.enumerate()])
""")
    done = subprocess.run(
        [sys.executable, "-m", "gpumodels", "run", str(BIN / "accelerate"), "launch", *ACCELERATE, "show.py"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "True\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessings_children_are_served(method: str, tmp_path: Path) -> None:
    """As the schedulers of SGLang and the workers of data loaders are started."""
    (tmp_path / "serve.py").write_text(f"""
import multiprocessing

def work(results):
    import threading, torch
    results.put("gpumodels" in [thread.name for thread in threading.enumerate()])

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    results = context.Queue()
    children = [context.Process(target=work, args=(results,)) for _ in range(2)]
    for child in children:
        child.start()
    print([results.get(timeout=60) for _ in children])
    for child in children:
        child.join()
    print([child.exitcode for child in children])
""")
    done = subprocess.run(
        [sys.executable, "-m", "gpumodels", "run", "serve.py"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[True, True]\n[0, 0]\n", "")
