"""The README's pictures, drawn by the application itself from simulated data: `python -m tests.pictures`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # as pytest does: the builders are modules of this folder

from gpumodels_tui.app import GpuModelsApp
from views import NOON_SECONDS, a_full_view

DOCS = Path(__file__).parent.parent / "docs"


async def draw(path: Path, columns: int, lines: int, keys: list[str]) -> None:
    """Press the keys, then write what the screen shows."""
    app = GpuModelsApp(a_full_view(), clock=lambda: NOON_SECONDS)
    app.ansi_color = False  # a picture has no terminal whose sixteen colours it could be in: it takes the theme's
    async with app.run_test(size=(columns, lines)) as pilot:
        await pilot.pause()
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        path.write_text(app.export_screenshot(title="gpumodels-tui (simulated GPUs)"), encoding="utf-8")


def main() -> None:
    """Write them all."""
    DOCS.mkdir(exist_ok=True)
    asyncio.run(draw(DOCS / "overview.svg", 112, 18, []))
    asyncio.run(draw(DOCS / "layers.svg", 120, 28, ["enter", "down", "right", "right", "right"]))


if __name__ == "__main__":
    main()
