"""AMD's GPUs as ROCm's kernel driver (KFD) numbers them, and the memory that its processes hold there."""

from __future__ import annotations

from typing import Final

from gpumodels_shared.pid_namespaces import sees_all_pids
from gpumodels_shared.records import Record
from gpumodels_tui.sources.figures import MOST_BYTES
from gpumodels_tui.sources.kernel_files import KernelFiles, whole_number

_TOPOLOGY: Final = "sys/class/kfd/kfd/topology/nodes"


class KfdNode(Record):
    """A GPU of ROCm."""

    number: int
    """Its place among the GPUs: what ROCR_VISIBLE_DEVICES and, without that, HIP call it."""
    gpu_id: int
    pci_address: str


def kfd_nodes(files: KernelFiles) -> list[KfdNode]:
    """The GPUs in ROCm's order, those that we may use; empty where KFD isn't loaded."""
    nodes = [path for path in files.found(f"{_TOPOLOGY}/*") if path.name.isdecimal()]
    found: list[KfdNode] = []
    for node in sorted(nodes, key=lambda path: int(path.name)):
        gpu_id = files.number(node / "gpu_id", 2**32 - 2)
        said = files.settings(node / "properties", " ")
        place = whole_number(said.get("location_id"), 2**32)
        domain = whole_number(said.get("domain", "0"), 2**32)
        if gpu_id and place is not None and domain is not None and said.get("simd_count", "0") != "0":
            address = f"{domain:04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.{place & 7}"
            found.append(KfdNode(len(found), gpu_id, address))
    return found


def kfd_processes(files: KernelFiles, node: KfdNode) -> dict[int, int | None]:
    """Bytes by process. KFD names them by the numbers of the first PID namespace."""
    if not sees_all_pids():
        return {}
    found: dict[int, int | None] = {}
    for path in files.found(f"sys/class/kfd/kfd/proc/*/vram_{node.gpu_id}"):
        if path.parent.name.isdecimal() and (size := files.number(path, MOST_BYTES)) != 0:
            found[int(path.parent.name)] = size
    return found
