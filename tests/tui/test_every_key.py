"""Every key on every screen does what it says. A binding that no line of `EFFECTS` speaks of fails."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from textual.binding import Binding
from textual.dom import DOMNode
from textual.pilot import Pilot
from textual.widgets import Input

from gpumodels_shared.records import replace
from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.screens.layers import LayersScreen
from gpumodels_tui.screens.model_list_screen import ModelListScreen
from gpumodels_tui.screens.overview import OverviewScreen
from gpumodels_tui.screens.palette import ChoiceTable, PaletteScreen
from gpumodels_tui.screens.process import ProcessScreen
from gpumodels_tui.screens.text_screen import TextScreen
from gpumodels_tui.screens.timeline import TimelineScreen
from gpumodels_tui.view.events import Event, EventKind, History
from gpumodels_tui.view.listing import Order
from gpumodels_tui.view.rows import View
from gpumodels_tui.widgets.device_panel import DevicePanel
from gpumodels_tui.widgets.event_table import EventTable
from gpumodels_tui.widgets.facts_panel import FactsPanel
from gpumodels_tui.widgets.filter_line import WordsInput
from gpumodels_tui.widgets.layer_table import LayerTable
from gpumodels_tui.widgets.line_table import LineTable
from gpumodels_tui.widgets.model_table import ModelTable
from screen_text import shown
from snapshots import GIB, MIB, NOON_NS, a_tree
from views import NOON_SECONDS, a_gpu, a_host, a_row, a_view, an_unattached

pytestmark = pytest.mark.usefixtures("universal_time")

SECOND: Final = 10**9
FILE: Final = "/models/first.safetensors"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a key may change."""

    text: str
    screen: type[object]
    depth: int
    """How many screens are open."""
    title: str = ""
    """On the frame of a box."""
    focused: type[object] | None = None
    position: int = -1
    """Of the cursor of the list."""
    rows: int = 0
    scrolled: float = 0
    device: int | None = None
    """The number of the chosen one; None for all."""
    words: str = ""
    order: Order = field(default_factory=Order)
    layer_order: tuple[str, bool] = ("", False)
    only: bool = False
    clipboard: str = ""
    returned: int | None = None
    suspended: bool = False
    pictures: int = 0
    frozen: str = ""
    interval: int = 0
    """The number of the chosen one."""


Effect = Callable[[Seen, Seen], bool]


@dataclass(frozen=True, slots=True)
class Case:
    """What is pressed before the key, and what the key must have done."""

    effect: Effect
    first: tuple[str, ...] = ()


def opens(title: str) -> Effect:
    return lambda before, after: after.title == title and after.depth == before.depth + 1


def goes_to(screen: type[object]) -> Effect:
    return lambda before, after: after.screen is screen and after.depth == before.depth + 1


def moves(low: int, high: int | None = None) -> Effect:
    """The cursor, by so many rows."""
    return lambda before, after: low <= after.position - before.position <= (low if high is None else high)


def says(words: str) -> Effect:
    return lambda before, after: words in after.text and words not in before.text


def focuses(widget: type[object]) -> Effect:
    return lambda before, after: after.focused is widget and before.focused is not widget


def swaps_focus(one: type[object], other: type[object]) -> Effect:
    return lambda before, after: {before.focused, after.focused} == {one, other}


def chooses(number: int | None) -> Effect:
    return lambda before, after: after.device == number and before.device != number


def scrolls(down: bool) -> Effect:
    return lambda before, after: after.scrolled > before.scrolled if down else after.scrolled < before.scrolled


CLOSES: Final[Effect] = lambda before, after: after.depth == before.depth - 1  # noqa: E731
LEAVES: Final[Effect] = lambda before, after: after.returned == 0  # noqa: E731
FILTERED: Final = ("slash", *"model", "enter", "home", "down", "down")

EFFECTS: Final[dict[str, Case]] = {
    "app.help": Case(opens("Keys")),
    "app.quit": Case(LEAVES),
    "app.interrupt": Case(LEAVES),
    "app.timeline": Case(goes_to(TimelineScreen)),
    "app.process": Case(goes_to(ProcessScreen)),
    "app.palette": Case(goes_to(PaletteScreen)),
    "app.users": Case(says("Only user ")),
    "app.filters": Case(lambda before, after: "Only user " in before.text and "Only user " not in after.text, ("u",)),
    "app.freeze": Case(says("Frozen at")),
    "app.interval(1)": Case(says("refreshes every 2 s")),
    "app.interval(-1)": Case(says("refreshes every 0.5 s")),
    "app.copy_path": Case(lambda before, after: after.clipboard == FILE and "sent to the terminal" in after.text),
    "app.picture": Case(lambda before, after: after.pictures == 1 and "saved " in after.text),
    "app.suspend_process": Case(lambda before, after: after.suspended),
    "view.warnings": Case(opens("Warnings")),
    "list.filter": Case(focuses(WordsInput)),
    "list.next_match": Case(moves(1, 9), FILTERED),
    "list.previous_match": Case(moves(-9, -1), (*FILTERED, "n", "n")),
    "list.leave": Case(CLOSES),
    "overview.leave": Case(lambda before, after: bool(before.words) and not after.words, FILTERED),
    "overview.all": Case(chooses(None)),
    "overview.previous": Case(chooses(2), ("3",)),
    "overview.next": Case(chooses(4), ("3",)),
    "overview.pane": Case(swaps_focus(ModelTable, DevicePanel)),
    **{f"overview.device_{number}": Case(chooses(number), ("0",)) for number in range(1, 10)},
    "models.open": Case(goes_to(LayersScreen)),
    "models.sort": Case(lambda before, after: after.order == Order("age")),
    "models.sort_f6": Case(lambda before, after: after.order == Order("age")),
    "models.reverse": Case(lambda before, after: after.order == Order("on", reverse=True)),
    "models.column_left": Case(lambda before, after: after.order.column in ("kind", "device")),
    "models.column_right": Case(lambda before, after: after.order == Order("off")),
    "table.up": Case(moves(-1), ("end",)),
    "table.down": Case(moves(1), ("home",)),
    "table.page_up": Case(moves(-100, -2), ("end",)),
    "table.page_down": Case(moves(2, 100), ("home",)),
    "table.first": Case(lambda before, after: before.position > after.position == 0, ("end",)),
    "table.last": Case(lambda before, after: before.position < after.position == after.rows - 1, ("home",)),
    "devices.up": Case(chooses(2), ("3",)),
    "devices.down": Case(chooses(4), ("3",)),
    "devices.first": Case(chooses(1), ("3",)),
    "devices.last": Case(chooses(9), ("3",)),
    "devices.leave": Case(focuses(ModelTable)),
    "facts.up": Case(scrolls(down=False), ("end",)),
    "facts.down": Case(scrolls(down=True), ("home",)),
    "facts.first": Case(scrolls(down=False), ("end",)),
    "facts.last": Case(scrolls(down=True), ("home",)),
    "layers.pane": Case(swaps_focus(LayerTable, FactsPanel)),
    "layers.sort": Case(lambda before, after: after.layer_order == ("name", False)),
    "layers.sort_next": Case(lambda before, after: after.layer_order == ("name", False)),
    "layers.sort_before": Case(lambda before, after: after.layer_order == ("model", False)),
    "layers.reverse": Case(lambda before, after: after.layer_order == ("size", True)),
    "layers.facts": Case(opens("Facts")),
    "models.facts": Case(opens("Facts")),
    "models.holders": Case(lambda before, after: after.title.startswith("Who holds ") and after.depth == before.depth + 1),
    "layers.toggle": Case(lambda before, after: after.rows < before.rows, ("home",)),
    "layers.unfold": Case(lambda before, after: after.rows > before.rows, ("home", "enter")),
    "layers.fold": Case(lambda before, after: after.rows < before.rows, ("home",)),
    "process.pane": Case(swaps_focus(ModelTable, FactsPanel)),
    "process.other": Case(lambda before, after: after.title.startswith("What else ") and after.depth == before.depth + 1),
    "timeline.open": Case(goes_to(LayersScreen), ("home",)),
    "timeline.only": Case(lambda before, after: after.only and after.rows < before.rows),
    "timeline.facts": Case(opens("Loaded")),
    "timeline.compare": Case(says("nothing to compare with")),
    "timeline.narrower": Case(says("1 min"), ("right_square_bracket", "right_square_bracket", "left_square_bracket")),
    "timeline.wider": Case(says("over the last 10 min")),
    **{f"timeline.device_{number}": Case(chooses(number)) for number in range(1, 10)},
    "timeline.all": Case(chooses(None), ("1",)),
    "text.close": Case(CLOSES),
    "text.quit": Case(LEAVES),
    "text.up": Case(scrolls(down=False), ("end",)),
    "text.down": Case(scrolls(down=True), ("home",)),
    "text.page_up": Case(scrolls(down=False), ("end",)),
    "text.page_down": Case(scrolls(down=True), ("home",)),
    "text.first": Case(scrolls(down=False), ("end",)),
    "text.last": Case(scrolls(down=True), ("home",)),
    "palette.close": Case(CLOSES),
    "palette.up": Case(moves(-1), ("down", "down")),
    "palette.down": Case(moves(1)),
    "palette.page_up": Case(moves(-10), ("pagedown",)),
    "palette.page_down": Case(moves(10)),
    "filter.keep": Case(lambda before, after: after.words == "model" and after.focused is not WordsInput, tuple("model")),
    "filter.drop": Case(lambda before, after: after.words == "" and after.focused is not WordsInput, tuple("model")),
}
"""By the binding's id."""


@dataclass(frozen=True, slots=True)
class PlacedColumn:
    """Where keys are pressed: how one gets there, and whose bindings count, the nearest last."""

    keys: tuple[str, ...]
    owners: tuple[type[DOMNode], ...]
    opened_by: str = ""
    """Of a box: the key that closes it, too."""


PLACES: Final = {
    "overview": PlacedColumn((), (GpuModelsApp, OverviewScreen, ModelTable)),
    "devices": PlacedColumn(("tab",), (GpuModelsApp, OverviewScreen, DevicePanel)),
    "filter": PlacedColumn(("slash",), (GpuModelsApp, OverviewScreen, WordsInput)),
    "layers": PlacedColumn(("enter",), (GpuModelsApp, LayersScreen, LayerTable)),
    "facts of a model": PlacedColumn(("enter", "tab"), (GpuModelsApp, LayersScreen, FactsPanel)),
    "process": PlacedColumn(("p",), (GpuModelsApp, ProcessScreen, ModelTable)),
    "facts of a process": PlacedColumn(("p", "tab"), (GpuModelsApp, ProcessScreen, FactsPanel)),
    "timeline": PlacedColumn(("t",), (GpuModelsApp, TimelineScreen, EventTable)),
    "help": PlacedColumn(("question_mark",), (TextScreen,), "question_mark"),
    "warnings": PlacedColumn(("w",), (TextScreen,), "w"),
    "facts": PlacedColumn(("enter", "i"), (TextScreen,), "i"),
    "palette": PlacedColumn(("ctrl+p",), (PaletteScreen, Input)),
}

PRINTABLE: Final = frozenset(
    ("question_mark", "slash", "space", "plus", "minus", "equals_sign", "less_than_sign", "greater_than_sign")
)
TAKEN_BY_TYPING: Final = frozenset(
    key for binding in Input.BINDINGS if isinstance(binding, Binding) for key in binding.key.split(",")
) - {"enter", "escape"}


def bindings_at(place: PlacedColumn) -> dict[str, Binding]:
    """By key, as the classes declare them: the nearest wins. While one types, what can be printed or moves there is no key."""
    found: dict[str, Binding] = {}
    for owner in place.owners:
        of_owner: dict[str, Binding] = {}
        for ancestor in reversed(owner.__mro__):
            if not ancestor.__module__.startswith("gpumodels_tui"):
                continue
            if ancestor is DevicePanel:  # which inherits none
                of_owner = {}
            for binding in ancestor.__dict__.get("BINDINGS", ()):
                of_owner |= {key.strip(): dataclasses.replace(binding, key=key.strip()) for key in binding.key.split(",")}
        found |= of_owner
    typing = place.owners[-1] in (WordsInput, Input)
    typed = {key for key in found if typing and (len(key) == 1 or key in PRINTABLE or key in TAKEN_BY_TYPING)}
    return {key: binding for key, binding in found.items() if key not in typed or binding.priority}


def a_crowded_view() -> View:
    """Eight GPUs and host memory, more of everything than fits on a screen, and a file that can be copied."""
    tree = a_tree(
        {f"blocks.{block}.{part}": (block + 1) * MIB for block in range(30) for part in ("model", "ffn")}, device="cuda:0"
    )
    facts = {f"fact {number}": "something" for number in range(30)}
    first = a_row("model-00", 30 * GIB, tree=tree, files=[FILE], facts=facts)
    others = [a_row(f"model-{number:02d}", (30 - number) * GIB // 2, age_seconds=number) for number in range(1, 30)]
    gpus = [a_gpu(a_row(f"model-on-{index}"), index=index) for index in range(1, 8)]
    view = a_view(
        a_gpu(first, *others, unattached=[an_unattached()]),
        *gpus,
        a_host(number=9),
        warnings=[f"warning {number}" for number in range(60)],
    )
    events = [
        Event(100 - number, NOON_NS - number * SECOND, EventKind.LOADED, row.name, row.process, "0", GIB, row.key)
        for number, row in enumerate([first, *others])
    ]
    state = view.process_rows[0].state
    assert state is not None
    assert state.snapshot is not None
    warned = dataclasses.replace(state.snapshot, warnings=tuple(f"warning {number}" for number in range(30)))
    state = replace(state, snapshot=warned)
    rows = (replace(view.process_rows[0], state=state), *view.process_rows[1:])
    return replace(view, history=History(tuple(events)), process_rows=rows)


def seen(app: GpuModelsApp, pictures: Path, suspended: list[bool]) -> Seen:
    screen = app.screen
    tables = [table for table in screen.query(LineTable) if not isinstance(table, DevicePanel)]
    lists = [table for table in tables if table.can_focus or isinstance(table, ChoiceTable)]
    table: LineTable[Any] | None = lists[0] if lists else None
    scrolled = sum(widget.scroll_y for widget in screen.query("VerticalScroll"))
    device = screen.device if isinstance(screen, (OverviewScreen, TimelineScreen)) else None
    layers = list(screen.query(LayerTable))
    box = (
        [frame.border_title for frame in screen.query("Vertical") if frame.border_title] if isinstance(screen, TextScreen) else []
    )
    text = shown(app) if app.is_running else ""
    return Seen(
        text=text,
        screen=type(screen),
        depth=len(app.screen_stack),
        title=str(box[0]) if box else "",
        focused=None if screen.focused is None else type(screen.focused),
        position=-1 if table is None or table.cursor_row is None else list(table.rows).index(table.cursor_row),
        rows=0 if table is None else len(table.rows),
        scrolled=scrolled,
        device=None if device is None else device.number,
        words=getattr(screen, "words", ""),
        order=screen.order if isinstance(screen, ModelListScreen) else Order(),
        layer_order=(layers[0].outline.order, layers[0].outline.reverse) if layers else ("", False),
        only="only " in text,
        clipboard=app.clipboard,
        returned=app.return_value,
        suspended=bool(suspended),
        pictures=len(list(pictures.glob("gpumodels-*.svg"))),
        frozen=app.frozen,
        interval=app._interval,
    )


async def pressed(pilot: Pilot[int], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


class Visit:
    """An application at one place, in which one key after the other is pressed, as long as it can be brought back there."""

    def __init__(self, place: PlacedColumn, pictures: Path, patch: pytest.MonkeyPatch) -> None:
        self._place = place
        self._pictures = pictures
        self._suspended: list[bool] = []
        self._running = AsyncExitStack()
        self._first: Seen | None = None
        patch.chdir(pictures)
        patch.setattr(GpuModelsApp, "action_suspend_process", lambda app: self._suspended.append(True))

    async def __aenter__(self) -> Visit:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    def seen(self) -> Seen:
        return seen(self.app, self._pictures, self._suspended)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await pressed(self.pilot, key)

    async def arrive(self) -> None:
        """Be at the place, with all to be seen as in an application that was just started."""
        for picture in self._pictures.glob("gpumodels-*.svg"):
            picture.unlink()
        self._suspended.clear()
        if self._first is not None and await self._is_back():
            return
        await self._running.aclose()
        self.app = GpuModelsApp(a_crowded_view(), clock=lambda: NOON_SECONDS)
        self.pilot = await self._running.enter_async_context(self.app.run_test(size=(80, 24)))
        await self.pilot.pause()
        await self.press(*self._place.keys)
        self._first = self._first or self.seen()

    async def _is_back(self) -> bool:
        while len(self.app.screen_stack) > 1 and self.app.return_value is None:
            depth = len(self.app.screen_stack)
            await self.press("escape")
            if len(self.app.screen_stack) == depth:
                return False
        if self.app.return_value is not None:
            return False
        if not isinstance(self.app.screen.focused, ModelTable):
            await self.press("escape")
        await self.press("home", *self._place.keys)
        return self.seen() == self._first


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", PLACES)
async def test_each_key_does_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = PLACES[name]
    async with Visit(place, tmp_path, monkeypatch) as visit:
        for key, binding in bindings_at(place).items():
            assert binding.id in EFFECTS, f"nothing says what {binding.id} does"
            case = EFFECTS[binding.id]
            await visit.arrive()
            await visit.press(*case.first)
            active = visit.app.screen.active_bindings.get(key)
            before = visit.seen()
            await visit.press(key)
            after = visit.seen()
            if active is None or not active.enabled:
                assert before == after, f"{key}, which is greyed, did something"
            else:
                assert active.binding.id == binding.id, key
                assert case.effect(before, after), (key, before, after)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
async def test_the_keys_that_are_tested_are_those_that_there_are(name: str) -> None:
    place = PLACES[name]
    app = GpuModelsApp(a_crowded_view(), clock=lambda: NOON_SECONDS)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        for one in place.keys:
            await pressed(pilot, one)
        active = {key for key, one in app.screen.active_bindings.items() if one.binding.id}
        assert set(bindings_at(place)) == active - (PRINTABLE if isinstance(app.screen.focused, Input) else set())


def test_every_effect_is_of_a_binding_that_exists() -> None:
    assert set(EFFECTS) == {binding.id for place in PLACES.values() for binding in bindings_at(place).values()}


README: Final = Path(__file__).parent.parent.parent / "README.md"
AS_WRITTEN: Final = {
    "↑": "up",
    "↓": "down",
    "→": "right",
    "←": "left",
    "PgUp": "pageup",
    "PgDn": "pagedown",
    "Esc": "escape",
    "Space": "space",
    "/": "slash",
    "<": "less_than_sign",
    ">": "greater_than_sign",
    "+": "plus",
    "-": "minus",
    "?": "question_mark",
    "[": "left_square_bracket",
    "]": "right_square_bracket",
    **{key: key.lower() for key in ("Enter", "Tab", "F6")},
    **{f"Ctrl-{letter}": f"ctrl+{letter.lower()}" for letter in "PZ"},
}
UNWRITTEN: Final = frozenset(("shift+tab", "home", "end", "ctrl+c", "ctrl+q", "equals_sign", *"2345678"))
"""Those that do the same as one that is written, and the numbers between."""


def test_the_readme_names_the_keys_that_there_are() -> None:
    table = README.read_text(encoding="utf-8").partition("## Keys")[2].partition("## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    written = [word for row in rows for word in re.findall("`([^`]+)`", row)]
    written += re.findall("`(o)` there", table) + re.findall(r"`([\[\]])`", table)
    keys = {AS_WRITTEN.get(word, word) for word in written}
    screens = [place for place in PLACES.values() if GpuModelsApp in place.owners]
    assert keys == {key for place in screens for key in bindings_at(place)} - UNWRITTEN
