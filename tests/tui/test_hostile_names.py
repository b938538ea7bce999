"""Names that would steer a terminal, deceive an eye or leave their column: drawn harmless, on every screen."""

from __future__ import annotations

import dataclasses
from typing import Final

import pytest
from rich.cells import cell_len
from textual import events
from textual.pilot import Pilot

from gpumodels_shared.records import replace
from gpumodels_shared.schema import LayerTree
from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.view.events import Event, EventKind, History
from gpumodels_tui.view.memory_parts import MemoryPart, PartKind
from gpumodels_tui.view.process_rows import ProcessDevice, ProcessRow
from gpumodels_tui.view.rows import ModelRow, View
from screen_text import lines_shown, shown
from snapshots import GIB, MIB, NOON_NS, a_process, a_process_state, a_snapshot
from views import NOON_SECONDS, a_gpu, a_host, a_row, a_view, an_unattached

LARGE: Final = (120, 40)
NARROW: Final = (60, 20)

HOSTILE: Final = [
    "[bold red]markup[/] [/nope] [link=x]",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b[2J",
    "\u202egnp.exe\u2066\u200f",
    "模型名字很长很长很长很长很长很长🚀🚀👩‍👩‍👧‍👦",
    "x" * 10_000,
    "e" + "\u0301" * 5000,
    "tab\tnewline\nreturn\rnull\0",
    "",
]
MARKUP, STEERING_NAME = HOSTILE[:2]

STEERING: Final = frozenset("\x1b\x07\r\0\t\u202e\u2066\u200f")


def a_hostile_row(name: str, key: str) -> ModelRow:
    names = tuple(HOSTILE)
    tree = LayerTree(
        names=("", *names),
        depths=(0, *(1 for _ in names)),
        class_names=(name,),
        classes=(0,) * (len(names) + 1),
        parameters=(1,) * (len(names) + 1),
        devices=("cuda:0", name),
        dtypes=(name,),
        memory=tuple((layer + 1, layer % 2, 0, (layer + 1) * MIB) for layer in range(len(names))),
    )
    row = a_row(
        name,
        3 * GIB,
        kind=name,
        dtype=name,
        label=name,
        note=name,
        class_name=name,
        facts={name: name},
        metadata=dict.fromkeys(names, name),
        files=names,
        candidates=names,
        key=key,
        tree=tree,
    )
    return replace(row, device_labels={"cuda:0": name, name: name}, process_state=a_process_state(a_snapshot(), key="hostile"))


def a_hostile_view() -> View:
    rows = [a_hostile_row(name, str(position)) for position, name in enumerate(HOSTILE)]
    devices = [
        replace(a_gpu(*rows, index=index, unattached=[an_unattached(command=name)]), title=name, label=name)
        for index, name in enumerate(HOSTILE[:3])
    ]
    held = tuple((name, GIB) for name in HOSTILE)
    happened = [
        *(Event(50 - number, NOON_NS, EventKind.LOADED, name, name, name, GIB, "0") for number, name in enumerate(HOSTILE)),
        *(
            Event(40 - number, NOON_NS, EventKind.OUT_OF_MEMORY, name, name, name, GIB, None, 1, "hostile", held)
            for number, name in enumerate(HOSTILE)
        ),
    ]
    said = a_snapshot(process=a_process(STEERING_NAME, command=HOSTILE, visible_devices=MARKUP), warnings=HOSTILE)
    parts = (MemoryPart(PartKind.FIRST_MODEL, GIB, "0"),)
    places = tuple(ProcessDevice(device.key, None, device.title, parts, None) for device in devices)
    state = replace(a_process_state(said, key="hostile"), user=STEERING_NAME)
    process = ProcessRow("hostile", MARKUP, 4711, STEERING_NAME, " ".join(HOSTILE[:2]), NOON_NS, state, places)
    return replace(a_view(*devices, warnings=HOSTILE), history=History(tuple(happened)), process_rows=(process,))


async def pressed(pilot: Pilot[int], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


SCREENS: Final = {
    "overview": [],
    "all devices": ["0"],
    "a process without a sidecar": ["G"],
    "layers": ["enter", "down"],
    "facts beside the layers": ["enter", "tab"],
    "facts and raw metadata": ["enter", "i"],
    "raw metadata": ["enter", "i", "G"],
    "warnings": ["w"],
    "process": ["p"],
    "facts of a process": ["p", "tab"],
    "timeline": ["t"],
    "one model's timeline": ["t", "o"],
    "an event": ["t", "i"],
    "what was there": ["t", "G", "up", "i"],
    "palette": ["ctrl+p"],
    "help": ["question_mark"],
}


@pytest.mark.slow
@pytest.mark.parametrize("keys", SCREENS.values(), ids=SCREENS)
async def test_hostile_names_are_harmless_on_every_screen(keys: list[str]) -> None:
    app = GpuModelsApp(a_hostile_view(), clock=lambda: NOON_SECONDS)
    async with app.run_test(size=LARGE) as pilot:
        await pilot.pause()
        for key in keys:
            await pressed(pilot, key)
        text = shown(app)
        assert not STEERING & set(text)
        assert all(cell_len(line) <= LARGE[0] for line in lines_shown(app))
        if keys != ["question_mark"]:  # the box of keys covers what is below it
            assert MARKUP[:20] in text or "\\x1b[31mred" in text


@pytest.mark.slow
async def test_hostile_names_are_harmless_on_every_screen_of_a_narrow_terminal_one_after_the_other() -> None:
    app = GpuModelsApp(a_hostile_view(), clock=lambda: NOON_SECONDS)
    pictures = set()
    async with app.run_test(size=NARROW) as pilot:
        await pilot.pause()
        for name, keys in SCREENS.items():
            await pressed(pilot, *keys)
            text = shown(app)
            pictures.add(text)
            assert not STEERING & set(text), name
            assert all(cell_len(line) <= NARROW[0] for line in lines_shown(app)), name
            while len(app.screen_stack) > 1:
                await pressed(pilot, "escape")
            await pressed(pilot, "g", "1")
    assert len(pictures) == len(SCREENS)  # each of the keys led somewhere


async def test_hostile_words_in_the_filter_are_harmless() -> None:
    app = GpuModelsApp(a_hostile_view(), clock=lambda: NOON_SECONDS)
    async with app.run_test(size=LARGE) as pilot:
        for words in (MARKUP, STEERING_NAME, HOSTILE[4]):
            await pressed(pilot, "slash")
            app.post_message(events.Paste(words))
            await pilot.pause()
            assert not STEERING & set(shown(app))
            await pressed(pilot, "enter")
            assert not STEERING & set(shown(app))
            await pressed(pilot, "escape")


async def test_a_path_that_is_copied_is_said_harmlessly() -> None:
    row = replace(a_row("m"), model=dataclasses.replace(a_row("m").model, files=(STEERING_NAME,)))
    app = GpuModelsApp(a_view(a_gpu(row)), clock=lambda: NOON_SECONDS)
    async with app.run_test(size=LARGE) as pilot:
        await pressed(pilot, "y")
        assert "\\x1b[31mred" in shown(app)


WIDE: Final = ["模型名字很长很长很长很长很长很长🚀", "モデル", "👩‍👩‍👧‍👦 family", "e\u0301\u0301 accents", "plain"]


@pytest.mark.parametrize("width", [60, 80, 120])
async def test_wide_names_leave_the_columns_where_they_are(width: int) -> None:
    rows = [a_row(name, 3 * GIB, key=str(number)) for number, name in enumerate(WIDE)]
    app = GpuModelsApp(a_view(a_gpu(*rows), a_host(number=2)), clock=lambda: NOON_SECONDS)
    async with app.run_test(size=(width, 24)) as pilot:
        await pilot.pause()
        lines = [line for line in lines_shown(app) if "checkpoint" in line]
        assert len(lines) == len(WIDE)
        assert len({cell_len(line[: line.index("3.0 GB")]) for line in lines}) == 1
