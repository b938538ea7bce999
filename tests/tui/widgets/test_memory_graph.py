"""The last hour's memory: samples in columns, a graph per device while there is room."""

from __future__ import annotations

from apps import SMALL, app_showing, pressed
from screen_text import lines_shown, shown
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
        assert "and 9 more devices: 1-9 shows one" in shown(app)
        assert "GPU 6  38.0 GB, most 38.0 GB" in shown(app)
        await pressed(pilot, "9")
        assert "GPU 8  Simulated" in shown(app)
        assert "more device" not in shown(app)


async def test_host_memory_alone_has_a_graph_too() -> None:
    app = app_showing(a_view(a_host(a_row(device="cpu"))))
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t")
        assert "Host memory" in shown(app)
        assert "1 h ago" in shown(app)
