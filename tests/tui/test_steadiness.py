"""A hundred updates, in which rows come, go and change places, leave the eye where it was."""

from __future__ import annotations

import random
from typing import Any, Final

import pytest
from textual.pilot import Pilot

from gpumodels_shared.records import replace
from gpumodels_shared.schema import LayerTree
from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.view.rows import View
from gpumodels_tui.widgets.event_table import EventTable
from gpumodels_tui.widgets.layer_table import LayerTable
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.model_table import ModelTable
from snapshots import GIB, MIB, a_tree
from views import NOON_SECONDS, a_gpu, a_host, a_row, a_view, a_view_with_a_past, some_events

pytestmark = pytest.mark.slow

UPDATES: Final = 100
SMALL: Final = (80, 24)


def app_showing(view: View) -> GpuModelsApp:
    return GpuModelsApp(view, clock=lambda: NOON_SECONDS)


async def pressed(pilot: Pilot[int], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


async def updated(pilot: Pilot[int], app: GpuModelsApp, view: View) -> None:
    app.receive(view)
    await pilot.pause()
    assert app.view is view


def line_of_cursor(table: LineTable[Any]) -> int:
    """Of the rows in view: where the cursor is on the screen."""
    keys = [table.key_of(row) for row in table.rows]
    return keys.index(table.cursor_key) - table.top_row


def changing_models(chance: random.Random) -> View:
    """Some of eighty models in any order of size, with adapters that come and go; `kept` in the middle with its adapter."""
    others = [f"model-{number:02d}" for number in range(80) if chance.random() > 0.3]
    large, small = others[: len(others) // 2], others[len(others) // 2 :]
    chance.shuffle(large)
    chance.shuffle(small)
    rows = [a_row(name, (200 - place) * GIB) for place, name in enumerate(large)]
    rows.append(a_row("kept", 100 * GIB + chance.randrange(GIB)))
    rows += [a_row(name, (90 - place) * GIB) for place, name in enumerate(small)]
    adapters = [f"adapter-{number}" for number in range(6) if chance.random() > 0.5]
    rows += [a_row(name, MIB, "lora", parent_key="kept") for name in adapters]
    return a_view(a_gpu(*rows), a_host(number=2))


async def test_the_cursor_stays_on_its_model_and_the_model_on_its_line() -> None:
    chance = random.Random(6)
    app = app_showing(changing_models(chance))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        table = app.screen.query_one(ModelTable)
        table.choose(("gpu:0", "kept"))
        assert table.top_row > 0
        line = line_of_cursor(table)
        seen = set()
        for _ in range(UPDATES):
            await updated(pilot, app, changing_models(chance))
            assert table.cursor_key == ("gpu:0", "kept")
            assert line_of_cursor(table) == line
            seen.add(tuple(entry.name for entry in table.rows))
        assert len(seen) > UPDATES // 2  # they were different lists


async def test_a_view_that_was_scrolled_away_from_the_cursor_stays_there() -> None:
    chance = random.Random(7)
    app = app_showing(changing_models(chance))
    async with app.run_test(size=SMALL) as pilot:
        await pilot.pause()
        table = app.screen.query_one(ModelTable)
        table.action_first()
        stayed = 0
        for _ in range(UPDATES):
            table.scroll_rows(30 - table.top_row)
            on_top = table.key_of(table.rows[table.top_row])
            await updated(pilot, app, changing_models(chance))
            keys = [table.key_of(row) for row in table.rows]
            last_top = len(keys) - table.visible_rows
            if on_top in keys and keys.index(on_top) <= last_top and line_of_cursor(table) < 0:
                assert keys[table.top_row] == on_top
                stayed += 1
        assert stayed > UPDATES // 4


def changing_tree(chance: random.Random) -> LayerTree:
    """Blocks come, go and grow, and with them their order; block 7's attention is always there."""
    layers = {"blocks.07.attn.q": 300 * MIB, "blocks.07.attn.k": 200 * MIB, "blocks.07.ffn": 50 * MIB}
    for block in range(30):
        if block != 7 and chance.random() > 0.3:
            layers[f"blocks.{block:02d}.attn"] = chance.randrange(1, 1000) * MIB
            layers[f"blocks.{block:02d}.ffn"] = chance.randrange(1, 1000) * MIB
    for name in ("head", "embed", "norm"):
        if chance.random() > 0.3:
            layers[name] = chance.randrange(1, 50_000) * MIB
    return a_tree(layers, device="cuda:0")


async def test_cursor_and_unfolded_layers_stay_while_layers_come_go_and_reorder() -> None:
    chance = random.Random(8)

    def view() -> View:
        return a_view(a_gpu(a_row("m", GIB, tree=changing_tree(chance))), a_host(number=2))

    app = app_showing(view())
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "enter")
        table = app.screen.query_one(LayerTable)

        def unfold(*path: str) -> None:
            layer, exact = table.sums.find(path)
            assert exact
            table.choose(layer)
            if not table.outline.is_unfolded(layer):
                table.action_toggle_layer()

        unfold("blocks")
        unfold("blocks", "07")
        unfold("blocks", "07", "attn")
        table.choose(table.sums.find(("blocks", "07", "attn", "k"))[0])
        orders = set()
        for _ in range(UPDATES):
            await updated(pilot, app, view())
            assert table.sums.path(table.cursor_row or 0) == ("blocks", "07", "attn", "k")
            in_sight = [".".join(table.sums.path(layer)) for layer in table.rows]
            at = in_sight.index("blocks.07")
            assert in_sight[at : at + 5] == [
                "blocks.07",
                "blocks.07.attn",
                "blocks.07.attn.q",
                "blocks.07.attn.k",
                "blocks.07.ffn",
            ]
            assert sum(path.count(".") > 1 for path in in_sight) == 4, "nothing else was unfolded"
            assert 0 <= line_of_cursor(table) < table.visible_rows
            orders.add(tuple(in_sight))
        assert len(orders) > UPDATES // 2


async def test_the_cursor_stays_on_its_event_while_new_ones_come() -> None:
    view = a_view_with_a_past()
    app = app_showing(view)
    async with app.run_test(size=SMALL) as pilot:
        await pressed(pilot, "t", "down", "down")
        table = app.screen.query_one(EventTable)
        key = table.cursor_key
        for count in range(1, UPDATES + 1):
            await updated(pilot, app, with_newer_events(view, count))
            assert table.cursor_key == key
            assert 0 <= line_of_cursor(table) < table.visible_rows


def with_newer_events(view: View, count: int) -> View:
    newer = [replace(some_events()[0], number=1000 + number) for number in range(count)]
    return replace(view, history=replace(view.history, events=(*reversed(newer), *some_events())))
