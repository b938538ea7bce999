"""Memory over time: samples in columns, a graph per device while there is room."""

from __future__ import annotations

import pytest

from apps import SMALL, app_showing, pressed
from gpumodels_tui.view.recorder import KEPT_SECONDS
from gpumodels_tui.widgets.memory_graph import LONGEST_GAP_SECONDS, SPANS, column_at, columns_of, span_holding, span_in_words
from screen_text import lines_shown, shown
from snapshots import NOON_NS
from views import a_full_view, a_gpu, a_host, a_row, a_view, out_of_memory, with_events


async def test_where_memory_ran_out_the_graph_of_that_device_is_marked() -> None:
    app = app_showing(with_events(a_full_view(), out_of_memory(minutes_ago=30)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t")
        lines = lines_shown(app)
        graph = next(line for line in lines if "GPU 0" in line)
        axis = next(line for line in lines if "30 min" in line)
        assert axis.index("30 min") - 3 <= graph.index("!") <= axis.index("30 min") + 9
        assert "!" not in next(line for line in lines if "GPU 1" in line)


async def test_more_devices_than_have_room_are_counted() -> None:
    app = app_showing(a_view(*(a_gpu(a_row(), index=index) for index in range(16)), a_host(number=17)))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t")
        assert "and 9 more devices; 1-9 shows one" in shown(app)
        assert "GPU 6  38.0 GB, peak 38.0 GB" in shown(app)
        await pressed(pilot, "9")
        assert "GPU 8  Simulated" in shown(app)
        assert "more device" not in shown(app)


async def test_host_memory_alone_has_a_graph_too() -> None:
    app = app_showing(a_view(a_host(a_row(device="cpu"))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t")
        assert "Host memory" in shown(app)
        assert "1 min ago" in shown(app)


NOW = NOON_NS // 10**9
WIDTH = 60
EACH = KEPT_SECONDS // WIDTH


def test_a_column_is_the_most_that_was_used_in_its_time() -> None:
    start = NOW // EACH * EACH
    assert columns_of([(start - EACH, 3), (start - EACH + 1, 9), (start - EACH + 2, 4), (start, 5)], NOW, WIDTH)[-2:] == [9, 5]


def test_a_picture_stands_still_until_a_column_is_over() -> None:
    start = NOW // EACH * EACH
    samples = [(start - 5 * EACH, 7), (start - EACH, 3)]
    pictures = [columns_of(samples, start + second, WIDTH) for second in range(EACH + 1)]
    assert pictures[1:-1] == pictures[:1] * (EACH - 1)
    assert pictures[-1][:-1] == pictures[0][1:]


def test_before_the_first_sample_and_after_the_last_nothing_is_known() -> None:
    columns = columns_of([(NOW - 10 * EACH, 4), (NOW - 8 * EACH, 6)], NOW, WIDTH)
    assert columns[-12:-7] == [None, 4, 4, 6, None]
    assert columns_of([], NOW, WIDTH) == [None] * WIDTH


def test_what_is_older_than_an_hour_is_in_no_column() -> None:
    assert columns_of([(NOW - KEPT_SECONDS - EACH, 4)], NOW, WIDTH) == [None] * WIDTH
    assert column_at(NOW - KEPT_SECONDS - EACH, NOW, WIDTH) < 0
    assert column_at(NOW, NOW, WIDTH) == WIDTH - 1


def test_more_columns_than_seconds_between_two_samples_leave_no_gaps() -> None:
    samples = [(NOW - 3600 + at, 8) for at in range(0, 3600, 5)]
    columns = columns_of(samples, NOW, 2000)
    assert None not in columns[columns.index(8) : 2000 - 1 - columns[::-1].index(8)]


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("width", [20, 49, 60, 77, 200])
def test_a_graph_holds_exactly_the_time_that_its_axis_says(span: int, width: int) -> None:
    assert column_at(NOW - span, NOW, width, span) in (-1, 0)
    assert column_at(NOW - span + span // width + 1, NOW, width, span) >= 0
    assert column_at(NOW, NOW, width, span) == width - 1


def test_the_shortest_time_that_holds_what_is_known_is_shown() -> None:
    assert [span_holding(seconds) for seconds in (0, 59, 60, 599, 600, 3600, 4000)] == [60, 60, 600, 600, 3600, 3600, 3600]
    assert [span_in_words(seconds) for span in SPANS for seconds in (span, span // 2)] == [
        *("1 min", "30 s"),
        *("10 min", "5 min"),
        *("1 h", "30 min"),
    ]


def test_while_nothing_is_known_of_a_device_its_graph_is_empty() -> None:
    samples = [(NOW - 10 * EACH, 4), (NOW - 9 * EACH, None), (NOW - 5 * EACH, 6), (NOW - 5 * EACH + LONGEST_GAP_SECONDS + 1, 7)]
    assert columns_of(samples, NOW, WIDTH)[-12:] == [None, 4, None, None, None, None, 6, None, 7, None, None, None]
