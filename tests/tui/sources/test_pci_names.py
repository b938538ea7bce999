from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_tui.sources.pci_names import LISTS, PciNames
from sysfs import FakeKernel

LIST = """# a comment
1001  Kolter
\t744c  Not this one
1002  AMD
\t744b  Navi 31 USB
\t\t1002 0001  A subsystem
\t744c  Navi 31 [Radeon RX 7900 XTX]
1003  ULSI
\t1234  Of another
"""


@pytest.mark.parametrize("place", LISTS)
def test_a_device_has_the_name_that_the_list_gives_its_vendors(place: str, tmp_path: Path) -> None:
    kernel = FakeKernel(tmp_path)
    kernel.write(place, LIST)
    names = PciNames(kernel.files)
    assert names.name_of(0x1002, 0x744C) == "Navi 31 [Radeon RX 7900 XTX]"
    assert names.name_of(0x1002, 0x1234) is None
    assert names.name_of(0x1002, None) is None
    (tmp_path / place).unlink()
    assert names.name_of(0x1002, 0x744C) is not None, "it is read once"


def test_without_a_list_no_device_has_a_name(tmp_path: Path) -> None:
    assert PciNames(FakeKernel(tmp_path).files).name_of(0x1002, 0x744C) is None
