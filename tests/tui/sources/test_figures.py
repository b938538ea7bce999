from __future__ import annotations

import pytest

from gpumodels_tui.sources.figures import MOST_BYTES, MOST_CELSIUS, MOST_MILLIWATTS, MOST_PERCENT, figure, total_and_used
from snapshots import GIB


@pytest.mark.parametrize("most", [MOST_PERCENT, MOST_CELSIUS, MOST_MILLIWATTS, MOST_BYTES])
@pytest.mark.parametrize("value", [2**32 - 1, 2**64 - 1, -1, None, "5", True, 2**49, 3.5])
def test_what_marks_an_unknown_value_and_what_no_gpu_has_is_unknown(value: object, most: int) -> None:
    assert figure(value, most) is None


def test_a_figure_may_reach_its_limit() -> None:
    assert [figure(value, 100) for value in (0, 87, 100, 101)] == [0, 87, 100, None]


@pytest.mark.parametrize(
    ("total", "used", "expected"),
    [
        (80 * GIB, 20 * GIB, (80 * GIB, 20 * GIB)),
        (80 * GIB, 0, (80 * GIB, 0)),
        (80 * GIB, 81 * GIB, (80 * GIB, None)),
        (80 * GIB, 2**32 - 1, (80 * GIB, None)),
        (2**32 - 1, 2**32 - 1, (None, None)),
        (2**64 - 1, 20 * GIB, (None, 20 * GIB)),
        (0, 0, (None, None)),
        (None, None, (None, None)),
    ],
)
def test_no_memory_is_of_no_size_or_fuller_than_full(total: object, used: object, expected: tuple[object, object]) -> None:
    assert total_and_used(total, used) == expected
