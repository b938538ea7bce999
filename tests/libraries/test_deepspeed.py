"""Training with DeepSpeed 0.19.8 on the CPU: the parameters are partitioned, flattened, and kept a second time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from gpumodels_shared.schema import Model
from hosts import Host
from library_hosts import a_library_host, needs, rows_of
from processes import run_python, wait_until

pytestmark = [pytest.mark.libraries, pytest.mark.timeout(300), needs("deepspeed")]

SETUP: Final = """
import socket, sys
answers, sys.stdout = sys.stdout, sys.stderr  # DeepSpeed logs to what is there when it is imported
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ |= dict(DS_ACCELERATOR="cpu", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
import deepspeed
deepspeed.ops.__compatible_ops__.update(dict.fromkeys(deepspeed.ops.__compatible_ops__, False))  # nothing is to be compiled
deepspeed.init_distributed("gloo", verbose=False)
sys.stdout = answers

class TinyZ3(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(256, 256) for _ in range(4))

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x

def config(stage, **more):
    zero = {"stage": stage, "stage3_param_persistence_threshold": 0, **more.pop("zero", {})}
    adam = {"type": "Adam", "params": {"lr": 1e-3, "torch_adam": True}}
    return {"train_micro_batch_size_per_gpu": 1, "optimizer": adam, "zero_optimization": zero, **more}

def local_bytes():
    parts = [getattr(parameter, "ds_tensor", parameter) for parameter in model.parameters()]
    return distinct(*model.parameters(), *parts)

def steps(dtype=torch.float32):
    for _ in range(2):
        engine.backward(engine(torch.randn(4, 256, dtype=dtype)).float().sum())
        engine.step()
"""

PARAMETERS: Final = 4 * 257 * 256


def the_row(host: Host) -> Model:
    """The only model, once it has as many bytes as it holds here."""
    size = host.tell("local_bytes()")
    (row,) = rows_of(host, 1, lambda found: found[0].resident_bytes == size)
    return row


def assert_optimizer_holds_three_copies(host: Host) -> None:
    """In float32: the weights, and Adam's two averages. A step's counters are a few bytes more."""

    def beyond() -> int:
        (device,) = host.snapshot().devices
        return (device.optimizer_bytes or 0) - 3 * PARAMETERS * 4

    wait_until(lambda: 0 <= beyond() < 1000)


@pytest.mark.parametrize("offloaded", [False, True], ids=["on the device", "offloaded to host memory"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_in_partitions_is_one_row_with_its_local_bytes(dtype: str, offloaded: bool, tmp_path: Path) -> None:
    zero = {"offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}} if offloaded else {}
    with a_library_host(tmp_path) as host:
        host.tell(SETUP)
        host.tell(f"settings = config(3, zero={zero}, bf16={{'enabled': {dtype == 'bfloat16'}}})")
        seen = []
        for step in (
            "with deepspeed.zero.Init(config_dict_or_path=settings):\n    model = TinyZ3()",
            "engine, *_ = deepspeed.initialize(model=model, config=settings, model_parameters=model.parameters())",
            f"steps(torch.{dtype})",
            "gathered = deepspeed.zero.GatheredParameters(list(model.parameters()))\ngathered.__enter__()",
            "gathered.__exit__(None, None, None)",
        ):
            host.tell(step)
            row = the_row(host)
            seen.append((row.name, row.class_name, row.parameters, row.resident_bytes))
        size = PARAMETERS * (4 if dtype == "float32" else 2)
        assert seen == [("TinyZ3", "TinyZ3", PARAMETERS, size)] * 5
        assert_optimizer_holds_three_copies(host)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_model_whose_optimizer_alone_is_partitioned_has_only_its_own_bytes(stage: int, tmp_path: Path) -> None:
    with a_library_host(tmp_path) as host:
        host.tell(SETUP)
        host.tell("model = TinyZ3()")
        host.tell(f"settings = config({stage}, bf16={{'enabled': True}})")
        host.tell("engine, *_ = deepspeed.initialize(model=model, config=settings, model_parameters=model.parameters())")
        host.tell("steps(torch.bfloat16)")
        row = the_row(host)
        assert (row.name, row.resident_bytes, row.parameters) == ("TinyZ3", PARAMETERS * 2, PARAMETERS)
        assert_optimizer_holds_three_copies(host)


TWO_RANKS: Final = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
os.environ |= {"DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1"}
import torch, torch.distributed as dist, torch.multiprocessing as mp
from torch import nn
sys.path.insert(0, sys.argv[1])
from modules import attached

def by_hand(*tensors):
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())

def in_process(rank, directory):
    dist.init_process_group("gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=2)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    import deepspeed
    deepspeed.ops.__compatible_ops__.update(dict.fromkeys(deepspeed.ops.__compatible_ops__, False))
    deepspeed.init_distributed("gloo", verbose=False)
    settings = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}
    answers = []
    with attached() as sidecar:
        def note():
            parts = [parameter.ds_tensor for parameter in model.parameters()]
            sizes = [(one.class_name, sum(one.bytes_by_device.values())) for one in sidecar.scan()]
            answers.append([sizes, by_hand(*parts), by_hand(*model.parameters())])

        with deepspeed.zero.Init(config_dict_or_path=settings):
            model = nn.Sequential(*(nn.Linear(256, 256) for _ in range(4)))
        note()
        with deepspeed.zero.GatheredParameters(list(model.parameters())):
            note()
        note()
    with open(f"{directory}/{rank}.json", "w") as file:
        json.dump([answers, sidecar.failures.count], file)
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.start_processes(in_process, args=(sys.argv[2],), nprocs=2, start_method="fork")
"""


def test_while_parameters_are_gathered_they_count_beside_the_partitions(tmp_path: Path) -> None:
    done = run_python(TWO_RANKS, str(Path(__file__).parent.parent), str(tmp_path))
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        answers, failures = json.loads((tmp_path / f"{rank}.json").read_text())
        seen: list[Any] = [[parts, whole] for _, parts, whole in answers]
        assert seen == [[PARAMETERS * 2, 0], [PARAMETERS * 2, PARAMETERS * 4], [PARAMETERS * 2, 0]]
        assert [rows for rows, _, _ in answers] == [[["Sequential", parts + whole]] for parts, whole in seen]
        assert failures == 0
