"""Whether each part of a device's memory is what torch and the tensors themselves say."""

from __future__ import annotations

import contextlib
from typing import Final

from gpu_check.machine import Machine, Row
from gpumodels_shared.schema import DeviceMemory
from hosts import Host
from processes import wait_until

SETTLED_SECONDS: Final = 20.0
TRAINED: Final = """
net = nn.Sequential(*(nn.Linear(512, 512) for _ in range(6))).to(D)
optimizer = torch.optim.AdamW(net.parameters())
net(torch.ones(4, 512, device=D)).sum().backward()
optimizer.step()
beside = torch.ones(3 << 20, dtype=torch.uint8, device=D)

def held(tensors):
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
                for tensor in tensors if tensor is not None and str(tensor.device) == D}
    return sum(storages.values())
"""
TRUTH: Final = """{
    "allocated": device_module.memory_allocated(D),
    "reserved": device_module.memory_reserved(D),
    "models": held(net.parameters()),
    "gradients": held(parameter.grad for parameter in net.parameters()),
    "optimizer": held(value for state in optimizer.state.values() for value in state.values()),
}"""


def check(machine: Machine) -> list[Row]:
    """A model in training, and a tensor that is no model's: each part, and their sum."""
    with machine.host("memory") as host:
        host.tell(TRAINED)
        truth = {name: int(size) for name, size in host.tell(" ".join(TRUTH.split())).items()}
        rows = []
        with contextlib.suppress(AssertionError):  # what is wrong then is said below
            # A look while it was trained saw a part, and so small an allocation alone brings no other look at once.
            wait_until(lambda: _said(_memory(host, machine)) == truth, SETTLED_SECONDS)
        memory = _memory(host, machine)
        assert memory is not None
        said = _said(memory)
        for name, size in truth.items():
            rows.append(Row("memory", name, f"{said[name]:,} of {size:,} bytes", said[name] == size))
        parts = (memory.models_bytes, memory.gradients_bytes, memory.optimizer_bytes, memory.cache_bytes, memory.other_bytes)
        total = sum(part or 0 for part in parts)
        rows.append(Row("memory", "sum of all parts", f"{total:,} of {truth['allocated']:,} bytes", total == truth["allocated"]))
    return rows


def _said(memory: DeviceMemory | None) -> dict[str, int | None]:
    if memory is None:
        return {}
    return {
        "allocated": memory.allocated_bytes,
        "reserved": memory.reserved_bytes,
        "models": memory.models_bytes,
        "gradients": memory.gradients_bytes,
        "optimizer": memory.optimizer_bytes,
    }


def _memory(host: Host, machine: Machine) -> DeviceMemory | None:
    return next((memory for memory in host.snapshot().devices if memory.device == machine.device), None)
