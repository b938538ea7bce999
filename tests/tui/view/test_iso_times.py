"""Moments as documents state them."""

from __future__ import annotations

import pytest

from gpumodels_tui.view.iso_times import time_text


@pytest.mark.parametrize(
    ("realtime_ns", "said"),
    [
        (1_780_000_000_000_000_000, "2026-05-28T20:26:40.000Z"),
        (1_780_000_000_001_900_000, "2026-05-28T20:26:40.001Z"),
        (None, None),
        (0, None),
        (-1, None),
        (2**63, "2262-04-11T23:47:16.854Z"),
        (10**30, None),
    ],
)
def test_a_moment_is_said_in_utc_and_what_is_none_is_not(realtime_ns: int | None, said: str | None) -> None:
    assert time_text(realtime_ns) == said
