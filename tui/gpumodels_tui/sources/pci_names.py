"""What PCI devices are called, from the list that Linux distributions install."""

from __future__ import annotations

from typing import Final

from gpumodels_tui.sources.kernel_files import KernelFiles

LISTS: Final = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids")
"""Debian's place and Fedora's. https://pci-ids.ucw.cz describes the format."""


class PciNames:
    """Reads the list once for each device that is asked for."""

    def __init__(self, files: KernelFiles) -> None:
        self._files = files
        self._known: dict[tuple[int, int], str | None] = {}

    def name_of(self, vendor_id: int, device_id: int | None) -> str | None:
        """`Navi 31 [Radeon RX 7900 XT]`; None if no list has it."""
        if device_id is None:
            return None
        key = vendor_id, device_id
        if key not in self._known:
            self._known[key] = self._looked_up(f"{vendor_id:04x}", f"{device_id:04x}")
        return self._known[key]

    def _looked_up(self, vendor: str, device: str) -> str | None:
        for path in LISTS:
            is_vendor = False
            try:
                with open(self._files.root / path, encoding="utf-8", errors="replace") as lines:
                    for line in lines:
                        if line[:1] not in "\t#\n":
                            if is_vendor:
                                break
                            is_vendor = line.startswith(f"{vendor} ")
                        elif is_vendor and line.startswith(f"\t{device} "):
                            return line[6:].strip() or None
            except OSError:
                continue
        return None
