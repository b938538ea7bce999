"""Sharded and replicated models in two real processes: each counts what it holds itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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

def a_sharded_model(**how):
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.device_mesh import init_device_mesh
    mesh = init_device_mesh("cpu", (2,))
    model = nn.Sequential(nn.Linear(1000, 5, bias=False), nn.Linear(5, 1000, bias=False))  # 5 rows: one rank has 3, one 2
    fully_shard(model[0], mesh=mesh, **how)
    fully_shard(model, mesh=mesh, **how)
    return model

def bytes_of_shards(model):
    return [p.to_local().numel() * p.element_size() for p in model.parameters()]

def padded(sidecar):
    model = a_sharded_model()
    local = bytes_of_shards(model)
    found = the_largest(sidecar)
    return {"class": found.class_name, "found": sum(found.bytes_by_device.values()), "local": local}

def gathered(sidecar):
    model = a_sharded_model(reshard_after_forward=False)
    shards = by_hand([p.to_local() for p in model.parameters()])
    with torch.no_grad():
        model(torch.zeros(1, 1000))
    whole = by_hand(model.parameters())
    found = the_largest(sidecar)
    model(torch.zeros(1, 1000)).sum().backward()
    gradients = by_hand([p.grad.to_local() for p in model.parameters()])
    model.unshard()
    return {
        "found": sum(found.bytes_by_device.values()),
        "shards": shards,
        "whole": whole,
        "gradients": gradients,
        "gradients found": sidecar.parts().gradients["cpu"],
    }

if __name__ == "__main__":
    mp.start_processes(in_process, args=(sys.argv[2], sys.argv[3]), nprocs=2, start_method="fork")
"""


def answers(work: str, folder: Path) -> list[dict[str, Any]]:
    done = run_python(SETUP, str(Path(__file__).parent.parent), work, str(folder))
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize(("work", "share"), [("sharded", 2), ("replicated", 1)])
def test_each_process_counts_its_local_bytes(work: str, share: int, tmp_path: Path) -> None:
    for answer in answers(work, tmp_path):
        assert answer["found"] == answer["by_hand"]
        assert answer["by_hand"] == answer["whole"] // share
        assert answer["class"] == "Backbone"
        assert answer["failures"] == 0


def test_shards_are_padded_to_the_size_of_the_largest(tmp_path: Path) -> None:
    """FSDP2 in torch 2.13."""
    large, small = answers("padded", tmp_path)
    assert [one["local"][0] for one in (large, small)] == [12_000, 8_000]
    assert large["found"] == small["found"] == sum(large["local"])
    assert large["failures"] == small["failures"] == 0


def test_shards_stay_in_memory_beside_the_gathered_weights(tmp_path: Path) -> None:
    """FSDP2 in torch 2.13: for the root, and where `reshard_after_forward` is off."""
    for answer in answers("gathered", tmp_path):
        assert answer["found"] == answer["shards"] + answer["whole"]
        assert answer["gradients found"] == answer["gradients"]
        assert answer["failures"] == 0
