from __future__ import annotations

from pathlib import Path

from gpumodels_tui.sources.drm_cards import card_name, drm_cards, power_watts, temperature_celsius
from gpumodels_tui.sources.pci_names import PciNames
from sysfs import FakeKernel


def test_cards_are_listed_in_bus_order_without_connectors_and_other_vendors(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.amd(0, "0000:83:00.0")
    kernel.amd(1, "0000:03:00.0")
    kernel.card(2, "0000:01:00.0", 0x10DE, "nvidia")
    kernel.card(3, "0000:02:00.0", 0x1002, "vfio-pci")
    cards = drm_cards(kernel.files, 0x1002, ("amdgpu",))
    assert [card.pci_address for card in cards] == ["0000:03:00.0", "0000:83:00.0"]


def test_a_partition_without_an_address_is_no_card(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    bus = kernel.amd(0, "0000:03:00.0")
    kernel.write(f"{bus}/uevent", "DRIVER=amdgpu\nMODALIAS=platform:amdgpu_xcp")
    assert drm_cards(kernel.files, 0x1002, ("amdgpu",)) == []


def test_sensors_tell_what_can_be_true(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    bus = kernel.amd(0, "0000:03:00.0")
    (card,) = drm_cards(kernel.files, 0x1002, ("amdgpu",))
    assert (temperature_celsius(kernel.files, card), power_watts(kernel.files, card)) == (56, 213.0)
    kernel.write(f"{bus}/hwmon/hwmon3/temp1_input", 2**32 - 1)
    kernel.write(f"{bus}/hwmon/hwmon3/power1_average", "")
    kernel.write(f"{bus}/hwmon/hwmon3/power1_input", 50_500_000)
    assert (temperature_celsius(kernel.files, card), power_watts(kernel.files, card)) == (None, 50.5)


def test_a_card_that_says_its_name_keeps_it(tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    bus = kernel.amd(0, "0000:03:00.0")
    (card,) = drm_cards(kernel.files, 0x1002, ("amdgpu",))
    assert card_name(kernel.files, card, PciNames(kernel.files)) is None
    kernel.write(f"{bus}/product_name", "AMD Instinct MI300X OAM")
    assert card_name(kernel.files, card, PciNames(kernel.files)) == "AMD Instinct MI300X OAM"
