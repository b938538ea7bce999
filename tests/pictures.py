"""The README's pictures, drawn by the application itself from simulated data: `make pictures`."""

from __future__ import annotations

import asyncio
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # as pytest does: the builders are modules of this folder

from gpumodels_shared.records import replace
from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.view.events import Event, EventKind, History
from gpumodels_tui.view.rows import View
from snapshots import GIB, MIB, NOON_NS, WAN
from views import NOON_SECONDS, a_full_view

DOCS = Path(__file__).parent.parent / "docs"


def a_past(view: View) -> History:
    """An hour in which models came and went."""
    start = int(NOON_SECONDS) - 3600
    samples = {
        device.key: tuple(
            (start + at, int((device.total_bytes or 0) * (0.3 + 0.2 * (at // 700 % 3) + 0.02 * math.sin(at / 90 + number))))
            for at in range(0, 3601, 5)
        )
        for number, device in enumerate(view.devices)
    }
    told = [
        (EventKind.MOVED_OFF, WAN, 11 * GIB, "ComfyUI/main.py 4711", "0", 3),
        (EventKind.OUT_OF_MEMORY, "ComfyUI/main.py 4711", 76 * GIB, "ComfyUI/main.py 4711", "0", 1),
        (EventKind.LOADED, "MyLoRA", 128 * MIB, "ComfyUI/main.py 4711", "0", 1),
        (EventKind.LOADED, WAN, 27 * GIB, "ComfyUI/main.py 4711", "0", 1),
        (EventKind.UNLOADED, "Wan2_2-T2V-A14B-LOW", 27 * GIB, "ComfyUI/main.py 4711", "0", 1),
        (EventKind.LOADED, "umt5-xxl-enc", 6 * GIB, "ComfyUI/main.py 4711", "0", 1),
        (EventKind.LOADED, "Llama-3.1-8B-Instruct", 15 * GIB, "vllm 90210", "1", 1),
        (EventKind.STARTED, "vllm 90210", 0, "vllm 90210", "", 1),
    ]
    there = tuple((row.name, row.on_bytes) for row in view.devices[0].models)
    events = tuple(
        Event(
            number=len(told) - place,
            at_ns=NOON_NS - place * 270 * 10**9,
            kind=kind,
            name=name,
            process=process,
            device=device,
            size_bytes=size,
            model_key=name,
            times=times,
            held=there if kind is EventKind.OUT_OF_MEMORY else (),
        )
        for place, (kind, name, size, process, device, times) in enumerate(told)
    )
    return History(events, samples)


async def draw(path: Path, columns: int, lines: int, keys: list[str]) -> None:
    """Press the keys, then write what the screen shows."""
    view = a_full_view()
    app = GpuModelsApp(replace(view, history=a_past(view)), clock=lambda: NOON_SECONDS)
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
    asyncio.run(draw(DOCS / "overview.svg", 112, 18, ["0"]))
    asyncio.run(draw(DOCS / "process.svg", 112, 24, ["p"]))
    asyncio.run(draw(DOCS / "timeline.svg", 112, 24, ["t"]))
    asyncio.run(draw(DOCS / "layers.svg", 120, 28, ["enter", "down", "right", "right", "right"]))


if __name__ == "__main__":
    main()
