"""Numbers as the tables write them: short, and calm."""

from __future__ import annotations

import pytest

from gpumodels_tui.widgets.quantities import calm_age, percent, short_dtype


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "now"), (0, "now"), (9, "now"), (12, "10s"), (59.9, "50s"), (60, "1m"), (7300, "2h"), (200_000, "2d")],
)
def test_young_ages_step_by_ten_seconds(seconds: float, expected: str) -> None:
    assert calm_age(seconds) == expected


def test_shares_and_dtypes_are_written_short() -> None:
    assert [percent(share) for share in (0, 0.001, 0.07, 1)] == ["0%", "<1%", "7%", "100%"]
    assert [short_dtype(name) for name in ("bfloat16+", "float8_e4m3fn", "q4_k", "")] == ["bf16+", "fp8e4m3", "q4_k", ""]
