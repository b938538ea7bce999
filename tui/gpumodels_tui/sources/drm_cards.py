"""The graphics cards that Linux's DRM lists in sysfs, and the figures that all drivers give in the same files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from gpumodels_shared.records import Record
from gpumodels_tui.sources.figures import MOST_CELSIUS, MOST_MILLIWATTS
from gpumodels_tui.sources.kernel_files import KernelFiles
from gpumodels_tui.sources.pci_names import PciNames

_CARD: Final = r"card[0-9]+"
_ADDRESS: Final = r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"


class DrmCard(Record):
    """A card on the PCI bus."""

    device: Path
    """Its directory in sysfs."""
    pci_address: str
    """`0000:03:00.0`: what `drm-pdev` calls it."""
    vendor_id: int
    device_id: int | None
    driver: str
    """`amdgpu`, `xe`, `i915`."""


def drm_cards(files: KernelFiles, vendor_id: int, drivers: tuple[str, ...]) -> list[DrmCard]:
    """The cards of one vendor that one of these drivers runs, in bus order."""
    found: dict[str, DrmCard] = {}
    for card in files.found("sys/class/drm/card*"):
        if re.fullmatch(_CARD, card.name) is None:  # `card0-DP-1` is a connector
            continue
        device = card / "device"
        said = files.settings(device / "uevent", "=")
        address = said.get("PCI_SLOT_NAME", "").lower()
        if files.number(device / "vendor", 0xFFFF) != vendor_id or said.get("DRIVER") not in drivers:
            continue
        if re.fullmatch(_ADDRESS, address) is not None:
            card_id = files.number(device / "device", 0xFFFF)
            found.setdefault(address, DrmCard(device, address, vendor_id, card_id, said["DRIVER"]))
    return [found[address] for address in sorted(found)]


def card_name(files: KernelFiles, card: DrmCard, names: PciNames) -> str | None:
    """What the card itself says, else what the machine's list of PCI devices calls it; None if neither does."""
    return files.text(card.device / "product_name") or names.name_of(card.vendor_id, card.device_id)


def temperature_celsius(files: KernelFiles, card: DrmCard) -> int | None:
    """The first sensor's, which is the chip's edge (amdgpu) or package (xe)."""
    for monitor in files.found(_below(files, card, "hwmon/hwmon*")):
        for sensor in ("temp1_input", "temp2_input"):
            thousandths = files.number(monitor / sensor, MOST_CELSIUS * 1000)
            if thousandths is not None:
                return round(thousandths / 1000)
    return None


def power_watts(files: KernelFiles, card: DrmCard) -> float | None:
    """What the card draws: averaged, where its driver averages, else at this moment."""
    for monitor in files.found(_below(files, card, "hwmon/hwmon*")):
        for meter in ("power1_average", "power1_input"):
            millionths = files.number(monitor / meter, MOST_MILLIWATTS * 1000)
            if millionths is not None:
                return millionths / 1_000_000
    return None


def _below(files: KernelFiles, card: DrmCard, pattern: str) -> str:
    return f"{card.device.relative_to(files.root)}/{pattern}"
