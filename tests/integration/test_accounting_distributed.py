"""Sharded and replicated models in two real processes: each counts what it holds itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processes import run_python

SETUP = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import torch, torch.distributed as dist, torch.multiprocessing as mp
from torch import nn
sys.path.insert(0, sys.argv[1])
from modules import attached, Backbone

def by_hand(tensors):
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())

def in_process(rank, work, directory):
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=2)
    with attached() as sidecar:
        answer = globals()[work](sidecar)
    with open(f"{directory}/{rank}.json", "w") as file:
        json.dump({**answer, "failures": sidecar.failures.count}, file)
    dist.destroy_process_group()

def the_largest(sidecar):
    return max(sidecar.scan(), key=lambda one: sum(one.bytes_by_device.values()))

def sharded(sidecar):
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.device_mesh import init_device_mesh
    model = Backbone(blocks=4, width=128)
    whole = sum(p.numel() * p.element_size() for p in model.parameters())
    mesh = init_device_mesh("cpu", (2,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    local = by_hand([p.to_local() for p in model.parameters()])
    found = the_largest(sidecar)
    return {"class": found.class_name, "found": sum(found.bytes_by_device.values()), "by_hand": local, "whole": whole}

def replicated(sidecar):
    model = Backbone(blocks=2, width=64)
    whole = by_hand(model.parameters())
    wrapped = nn.parallel.DistributedDataParallel(model)
    found = the_largest(sidecar)
    return {"class": found.class_name, "found": sum(found.bytes_by_device.values()), "by_hand": whole, "whole": whole}

if __name__ == "__main__":
    mp.start_processes(in_process, args=(sys.argv[2], sys.argv[3]), nprocs=2, start_method="fork")
"""


@pytest.mark.parametrize(("work", "share"), [("sharded", 2), ("replicated", 1)])
def test_each_process_counts_its_local_bytes(work: str, share: int, tmp_path: Path) -> None:
    done = run_python(SETUP, str(Path(__file__).parent.parent), work, str(tmp_path))
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        answer = json.loads((tmp_path / f"{rank}.json").read_text())
        assert answer["found"] == answer["by_hand"]
        assert answer["by_hand"] == answer["whole"] // share
        assert answer["class"] == "Backbone"
        assert answer["failures"] == 0
