"""The accelerator that stands in for a GPU: what a real one is to Python, it must be, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accelerator import simulated_device

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(simulated_device.unavailable() is not None, reason=str(simulated_device.unavailable())),
]

SETUP = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import torch, simulated_device
device = simulated_device.attach()
def answer(**values):
    print(json.dumps(values))
"""


def asked(source: str) -> dict[str, Any]:
    """What the source answers, run in a process that has the device."""
    command = [sys.executable, "-W", "error", "-c", SETUP + source, str(Path(simulated_device.__file__).parent)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_what_a_tensor_holds_is_reached_by_operations_and_not_by_its_address() -> None:
    told = asked("""
tensor = torch.arange(1, 1025).to("npu:1")
memory = os.open("/proc/self/mem", os.O_RDONLY)
try:
    read = os.pread(memory, 8, tensor.data_ptr()).hex()
except OSError as error:
    read = type(error).__name__
answer(read=read, sum=int(tensor.sum()), device=str(tensor.device), is_cpu=tensor.is_cpu)
""")
    assert told == {"read": "OSError", "sum": 524800, "device": "npu:1", "is_cpu": False}


def test_reading_its_address_ends_the_process() -> None:
    source = SETUP + "import ctypes; ctypes.string_at(torch.ones(4, device='npu').data_ptr(), 4)"
    command = [sys.executable, "-c", source, str(Path(simulated_device.__file__).parent)]
    assert subprocess.run(command, capture_output=True, timeout=110, check=False).returncode < 0


def test_it_counts_as_the_caching_allocator_does() -> None:
    told = asked("""
before = device.is_initialized()
kept = [torch.empty(1000, dtype=torch.uint8, device="npu:0"), torch.empty(3 << 20, dtype=torch.uint8, device="npu:0")]
def counted():
    stats = device.memory_stats(0)
    return [stats["allocated_bytes.all.current"], stats["reserved_bytes.all.current"], stats["num_ooms"]]
held = counted()
del kept[1]
cached = counted()
device.empty_cache()
emptied = counted()
device.set_total_bytes(8 << 20, 0)
try:
    torch.empty(64 << 20, dtype=torch.uint8, device="npu:0")
except torch.OutOfMemoryError:
    pass
general = torch.accelerator.memory_stats(0)["allocated_bytes.all.current"]
other = device.memory_allocated(1)
answer(before=before, held=held, cached=cached, emptied=emptied, failed=counted(), other=other, general=general)
""")
    two_mib = 2 << 20
    assert told["before"] is False
    assert told["held"] == [1024 + (3 << 20), 3 * two_mib, 0]
    assert told["cached"] == [1024, 3 * two_mib, 0]
    assert told["emptied"] == [1024, two_mib, 0]
    assert told["failed"] == [1024, two_mib, 1]
    assert told["other"] == 0
    assert told["general"] == 1024


def test_models_are_trained_saved_and_loaded_on_it() -> None:
    told = asked("""
import io
torch.manual_seed(3)
net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2)).to("npu:0")
optimizer = torch.optim.AdamW(net.parameters())
before = net(torch.ones(4, 8, device="npu:0")).square().sum().item()
net(torch.ones(4, 8, device="npu:0")).square().sum().backward()
optimizer.step()
after = net(torch.ones(4, 8, device="npu:0")).square().sum().item()
file = io.BytesIO()
torch.save(net.state_dict(), file)
file.seek(0)
state = torch.load(file, map_location="npu:1")
devices = sorted({str(value.device) for value in state.values()})
answer(is_smaller=after < before, devices=devices, same=bool(state["0.weight"].cpu().equal(net[0].weight.cpu())))
""")
    assert told == {"is_smaller": True, "devices": ["npu:1"], "same": True}
