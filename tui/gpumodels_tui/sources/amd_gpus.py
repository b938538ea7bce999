"""AMD's GPUs, as the kernel's driver amdgpu reports them in sysfs: nothing needs to be installed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gpumodels_tui.sources.drm_cards import DrmCard, card_name, drm_cards, power_watts, temperature_celsius
from gpumodels_tui.sources.drm_clients import DrmClients
from gpumodels_tui.sources.figures import MOST_BYTES, MOST_PERCENT, total_and_used
from gpumodels_tui.sources.gpu_reading import AMD, UNNAMED, GpuReading
from gpumodels_tui.sources.kernel_files import KernelFiles
from gpumodels_tui.sources.kfd_nodes import KfdNode, kfd_nodes, kfd_processes
from gpumodels_tui.sources.pci_names import PciNames

VENDOR_ID: Final = 0x1002
_BOARD_ID: Final = 16
"""Digits of `unique_id`, which boards since Vega have. ROCm's UUID is `GPU-` and these."""


class AmdGpus:
    """Reads sysfs, and the processes from their descriptors and from KFD."""

    def __init__(self, files: KernelFiles, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        files: The kernel's.
        clock: A monotonic clock in seconds.
        """
        self._files = files
        self._names = PciNames(files)
        self._clients = DrmClients(files, clock)

    def read(self, host_total_bytes: int | None) -> tuple[tuple[GpuReading, ...], tuple[str, ...]]:
        """The GPUs in bus order. One whose driver tells nothing keeps its row with nothing known."""
        cards = drm_cards(self._files, VENDOR_ID, ("amdgpu",))
        nodes = {node.pci_address: node for node in kfd_nodes(self._files)} if cards else {}
        held = self._clients.read({card.pci_address: ("vram",) for card in cards})
        read = (
            self._read(index, card, nodes.get(card.pci_address), held[card.pci_address], len(cards) == 1)
            for index, card in enumerate(cards)
        )
        return tuple(read), ()

    def close(self) -> None:
        """Nothing is kept open."""

    def _read(self, index: int, card: DrmCard, node: KfdNode | None, held: dict[int, int | None], is_only: bool) -> GpuReading:
        total, used = total_and_used(
            self._files.number(card.device / "mem_info_vram_total", MOST_BYTES),
            self._files.number(card.device / "mem_info_vram_used", MOST_BYTES),
        )
        # Both count the same memory; a descriptor that KFD's memory isn't accounted to tells less.
        for pid, size in (kfd_processes(self._files, node) if node is not None else {}).items():
            known = held.get(pid)
            held[pid] = size if known is None else known if size is None else max(known, size)
        board = (self._files.text(card.device / "unique_id") or "").lower()
        is_id = len(board) == _BOARD_ID and all(digit in "0123456789abcdef" for digit in board) and int(board, 16) != 0
        return GpuReading(
            index=index,
            uuid=f"GPU-{board}" if is_id else f"pci:{card.pci_address}",
            name=card_name(self._files, card, self._names) or UNNAMED,
            total_bytes=total,
            used_bytes=used,
            utilization_percent=self._files.number(card.device / "gpu_busy_percent", MOST_PERCENT),
            temperature_celsius=temperature_celsius(self._files, card),
            power_watts=power_watts(self._files, card),
            processes={
                pid: None if size is not None and total is not None and size > total else size for pid, size in held.items()
            },
            vendor=AMD,
            pci_address=card.pci_address,
            runtime_index=node.number if node is not None else 0 if is_only else None,
        )
