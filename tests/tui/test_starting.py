"""What waits for the first picture, and comes after it."""

from __future__ import annotations

import gc
import subprocess
import sys

from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.starting import resume_collection
from gpumodels_tui.widgets.facts_panel import FactsPanel
from gpumodels_tui.widgets.keys_line import KeysLine
from screen_text import shown
from snapshots import WAN
from views import NOON_SECONDS, a_full_view

FIRST_PICTURE = """
import sys
import gpumodels_tui.cli, gpumodels_tui.settings.resolving, gpumodels_tui.sources.opening, gpumodels_tui.starting
import gpumodels_tui.sources.feed, gpumodels_tui.sources.gpus, gpumodels_tui.app
late = "pynvml psutil watchdog safetensors numpy sqlite3 multiprocessing textual.widgets._footer".split()
print(*(name for name in late if name in sys.modules))
"""


def test_what_the_first_picture_does_not_show_is_not_loaded_for_it() -> None:
    loaded = subprocess.run([sys.executable, "-c", FIRST_PICTURE], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


async def test_the_collector_rests_until_there_is_a_picture() -> None:
    gc.unfreeze()
    gc.disable()
    try:
        app = GpuModelsApp(a_full_view(), clock=lambda: NOON_SECONDS, after_first_drawing=resume_collection)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            assert WAN in shown(app)
            assert gc.isenabled()
            assert gc.get_freeze_count() > 0
    finally:
        gc.enable()
        gc.unfreeze()


async def test_keys_and_facts_come_behind_the_first_picture() -> None:
    app = GpuModelsApp(a_full_view(), clock=lambda: NOON_SECONDS)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert app.screen.query_one(KeysLine).is_attached
        assert app.screen.query_one(FactsPanel).is_on_screen
        await pilot.resize_terminal(120, 20)
        await pilot.pause()
        assert not app.screen.query_one(FactsPanel).is_on_screen
