"""What a screen asks for is opened on top of it, whatever screen it is."""

from __future__ import annotations

from apps import SMALL, app_showing, on_screen
from gpumodels_tui.screens.layers import LayersScreen
from gpumodels_tui.screens.process import ProcessScreen
from gpumodels_tui.screens.requested import ModelRequested, ProcessRequested
from gpumodels_tui.view.rows import ModelRow
from screen_text import shown
from snapshots import WAN
from views import a_full_view


async def test_a_model_is_shown_as_on_the_device_that_is_asked_for_or_wherever_it_runs() -> None:
    app = app_showing(a_full_view())
    gpu, host = a_full_view().devices[0].models[0], a_full_view().devices[2].models[0]

    def model() -> ModelRow | None:
        assert isinstance(app.screen, LayersScreen)
        return app.screen.model

    async with app.run_test(size=SMALL) as pilot:
        for device_key, row in (("host", host), ("", gpu)):
            app.screen.post_message(ModelRequested(device_key, WAN))
            await pilot.pause()
            assert model() == row
        app.screen.post_message(ProcessRequested("process 90210"))
        await pilot.pause()
        assert on_screen(app, ProcessScreen)
        assert "vllm 90210" in shown(app)
        assert len(app.screen_stack) == 4
