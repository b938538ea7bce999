"""Intel's GPUs, as the kernel's drivers xe and i915 report them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gpumodels_tui.sources.drm_cards import DrmCard, card_name, drm_cards, power_watts, temperature_celsius
from gpumodels_tui.sources.drm_clients import DrmClients
from gpumodels_tui.sources.figures import MOST_BYTES, total_and_used
from gpumodels_tui.sources.gpu_reading import INTEL, UNNAMED, GpuReading
from gpumodels_tui.sources.kernel_files import KernelFiles
from gpumodels_tui.sources.pci_names import PciNames

VENDOR_ID: Final = 0x8086
_INTEGRATED: Final = "0000:00:02.0"
"""Where every processor's own GPU is, which uses the machine's memory."""


class IntelGpus:
    """Reads sysfs, and the processes from their descriptors.

    What is used of a card's own memory only i915's out-of-tree driver tells, so that it is unknown else: the sum of processes
    would leave out those that we may not look into.
    """

    def __init__(self, files: KernelFiles, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        files: The kernel's.
        clock: A monotonic clock in seconds.
        """
        self._files = files
        self._names = PciNames(files)
        self._clients = DrmClients(files, clock)

    def read(self, host_total_bytes: int | None) -> tuple[tuple[GpuReading, ...], tuple[str, ...]]:
        """The GPUs in bus order."""
        cards = drm_cards(self._files, VENDOR_ID, ("xe", "i915"))
        held = self._clients.read({card.pci_address: _regions(card) for card in cards})
        read = (
            self._read(index, card, held[card.pci_address], host_total_bytes, len(cards) == 1) for index, card in enumerate(cards)
        )
        return tuple(read), ()

    def close(self) -> None:
        """Nothing is kept open."""

    def _read(
        self, index: int, card: DrmCard, held: dict[int, int | None], host_total_bytes: int | None, is_only: bool
    ) -> GpuReading:
        is_integrated = card.pci_address == _INTEGRATED
        total, used = (host_total_bytes, None) if is_integrated else self._own_memory(card)
        return GpuReading(
            index=index,
            uuid=f"pci:{card.pci_address}",
            name=card_name(self._files, card, self._names) or UNNAMED,
            total_bytes=total,
            used_bytes=used,
            temperature_celsius=temperature_celsius(self._files, card),
            power_watts=power_watts(self._files, card),
            processes={
                pid: None if size is not None and total is not None and size > total else size for pid, size in held.items()
            },
            shares_host_memory=is_integrated,
            vendor=INTEL,
            pci_address=card.pci_address,
            runtime_index=0 if is_only else None,
        )

    def _own_memory(self, card: DrmCard) -> tuple[int | None, int | None]:
        """In all, and used, in bytes; xe tells the size of each tile's."""
        tiles = self._files.found(f"{card.device.relative_to(self._files.root)}/tile*/physical_vram_size_bytes")
        sizes = [self._files.number(tile, MOST_BYTES) for tile in tiles]
        if sizes and None not in sizes:
            return total_and_used(sum(size or 0 for size in sizes), None)
        total = self._files.number(card.device.parent / "lmem_total_bytes", MOST_BYTES)
        free = self._files.number(card.device.parent / "lmem_avail_bytes", MOST_BYTES)
        return total_and_used(total, total - free if total is not None and free is not None and free <= total else None)


def _regions(card: DrmCard) -> tuple[str, ...]:
    return ("system", "gtt") if card.pci_address == _INTEGRATED else ("vram", "local")
