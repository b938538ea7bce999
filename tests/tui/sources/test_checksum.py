from __future__ import annotations

import os
import zlib

from gpumodels_tui.sources.checksum import crc32


def test_it_is_the_same_number_as_zlibs() -> None:
    for length in (0, 1, 63, 64, 1000, 262_144):
        data = os.urandom(length)
        assert crc32(data) == zlib.crc32(data)
