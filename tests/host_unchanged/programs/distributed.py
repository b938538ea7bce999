"""Hosts that are two processes: data parallel, fully sharded and tensor parallel over gloo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from host_unchanged.observing import bits, scanned
from host_unchanged.running import enter
from host_unchanged.table import Mode, program

RANKS = 2


def _network() -> nn.Sequential:
    torch.manual_seed(8)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    torch.save(model.state_dict(), f"source{torch.distributed.get_rank()}.pt")
    model.load_state_dict(torch.load(f"source{torch.distributed.get_rank()}.pt"))
    scanned()
    return model


def _step(model: nn.Module, whole: Any = lambda tensor: tensor) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scanned()
    model(torch.arange(16.0).reshape(2, 8)).sum().backward()
    optimizer.step()
    scanned()
    return {name: bits(whole(each)) for name, each in model.state_dict().items()}


def _data_parallel() -> Any:
    return _step(nn.parallel.DistributedDataParallel(_network()))


def _fully_sharded() -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = _network()
    mesh = init_device_mesh("cpu", (RANKS,))
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return [_step(model, lambda tensor: tensor.full_tensor()), sorted(type(each).__name__ for each in model.parameters())]


def _tensor_parallel() -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (RANKS,))
    model = parallelize_module(_network(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    return _step(model, lambda tensor: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor)


def _rank(rank: int, mode: Mode) -> None:
    enter(mode)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{Path.cwd()}/meeting", rank=rank, world_size=RANKS)
    told = [_data_parallel(), _fully_sharded(), _tensor_parallel()]
    Path(f"told{rank}").write_text(json.dumps(told))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@program
def ranks_train() -> Any:
    if not torch.distributed.is_available():
        return None
    multiprocessing: Any = torch.multiprocessing
    multiprocessing.spawn(_rank, (Mode.of_this_process(),), nprocs=RANKS)
    return [json.loads(Path(f"told{rank}").read_text()) for rank in range(RANKS)]
