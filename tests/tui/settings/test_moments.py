"""Times as people and programs write them."""

from __future__ import annotations

import pytest

from gpumodels_tui.settings.moments import since_ns
from snapshots import MINUTE_NS, NOON_NS


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90s", NOON_NS - 90 * 10**9),
        ("10m", NOON_NS - 10 * MINUTE_NS),
        ("2h", NOON_NS - 120 * MINUTE_NS),
        ("1d", NOON_NS - 1440 * MINUTE_NS),
        ("2026-05-28T20:26:40Z", NOON_NS),
        ("2026-05-28T20:26:40.250Z", NOON_NS + 250_000_000),
        ("2026-05-28T22:26:40+02:00", NOON_NS),
        ("1780000000", NOON_NS),
        ("1780000000.5", NOON_NS + 500_000_000),
    ],
)
def test_a_time_is_an_age_or_a_moment(text: str, meant: int) -> None:
    assert since_ns(text, NOON_NS) == meant


@pytest.mark.parametrize("text", ["", "yesterday", "10", "10w", "-5m", "9" * 40 + "s", "2026-13-01T00:00:00Z", "٣m"])
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: 10m"):
        since_ns(text, NOON_NS)
