from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_tui.sources import kfd_nodes as kfd
from gpumodels_tui.sources.kfd_nodes import kfd_nodes, kfd_processes
from snapshots import GIB
from sysfs import FakeKernel


def test_gpus_have_the_numbers_of_rocm_which_leaves_processors_out(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.node(0, 0, 0, simds=0)
    kernel.node(1, 7003, 0x0500, simds=0)
    kernel.node(10, 7002, 0x8300)
    kernel.node(2, 7001, 0x0300 | 0x21, domain=1)
    found = [(node.number, node.gpu_id, node.pci_address) for node in kfd_nodes(kernel.files)]
    assert found == [(0, 7001, "0001:03:04.1"), (1, 7002, "0000:83:00.0")]


def test_a_gpu_that_this_container_may_not_use_has_no_number(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.node(1, 7001, 0x0300)
    kernel.node(2, 7002, 0x8300)
    kernel.write("sys/class/kfd/kfd/topology/nodes/1/properties", "")
    assert [(node.number, node.gpu_id) for node in kfd_nodes(kernel.files)] == [(0, 7002)]


def test_memory_is_told_by_process_and_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.node(1, 7001, 0x0300)
    kernel.write("sys/class/kfd/kfd/proc/4711/vram_7001", 3 * GIB)
    kernel.write("sys/class/kfd/kfd/proc/4711/vram_7002", GIB)
    kernel.write("sys/class/kfd/kfd/proc/4712/vram_7001", 0)
    (node,) = kfd_nodes(kernel.files)
    monkeypatch.setattr(kfd, "sees_all_pids", lambda: True)
    assert kfd_processes(kernel.files, node) == {4711: 3 * GIB}
    monkeypatch.setattr(kfd, "sees_all_pids", lambda: False)
    assert kfd_processes(kernel.files, node) == {}, "these are the machine's numbers, not this container's"
