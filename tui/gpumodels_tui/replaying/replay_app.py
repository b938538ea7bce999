"""The application with a recording in it: the same screens, a line that says so on each of them, and keys to go through it."""

from __future__ import annotations

import time
from typing import Any, ClassVar, Final

from textual.binding import Binding, BindingType

from gpumodels_tui.app import GpuModelsApp
from gpumodels_tui.replaying.player import Player

SEEK: Final = "Go back or forwards by 10 s"
LEAP: Final = "Go back or forwards by 5 min"
EVENT: Final = "Go to the previous or next event"
SPEED: Final = "Play slower or faster"
KEYS: Final = "Space  , . 10 s  e E event  + - speed"
NOTICE_SECONDS: Final = 0.5


def _key(keys: str, action: str, name: str, display: str, meaning: str, *, show: bool = False) -> Binding:
    return Binding(keys, action, name, show=show, key_display=display, id=f"replay.{action}", tooltip=meaning)


class ReplayApp(GpuModelsApp):
    """The screens at another time."""

    SUB_TITLE = "REPLAY"
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("space", "freeze", "Pause", "Space", "Pause or go on", show=True),
        _key("comma", "seek(-10)", "-10 s", ",", SEEK),
        _key("full_stop", "seek(10)", "+10 s", ".", SEEK),
        _key("left_parenthesis", "seek(-300)", "-5 min", "(", LEAP),
        _key("right_parenthesis", "seek(300)", "+5 min", ")", LEAP),
        _key("E", "event(-1)", "Event", "E", EVENT),
        _key("e", "event(1)", "Event", "e", EVENT),
        _key("minus", "interval(-1)", "Slower", "-", SPEED),
        _key("plus,equals_sign", "interval(1)", "Faster", "+", SPEED),
    ]

    def __init__(self, player: Player, title: str, *, starts_with_timeline: bool = False, **arguments: Any) -> None:
        """Args:
        player: Which moment is shown.
        title: What is played, for the line that says so.
        starts_with_timeline: Whether the timeline is the first screen.
        arguments: Those of `GpuModelsApp`.
        """
        self._player = player
        self._title = title
        self._starts_with_timeline = starts_with_timeline
        super().__init__(clock=lambda: player.position_ns() / 1e9, watching=player, **arguments)
        self.set_reactive(GpuModelsApp.notice, self._notice())

    def on_mount(self) -> None:
        """Keep the line up to date, also while nothing else changes."""
        self.set_interval(NOTICE_SECONDS, self._update_notice)
        if self._starts_with_timeline:
            self.call_after_refresh(self.action_timeline)

    def action_freeze(self) -> None:
        """Pause, or go on."""
        self._player.pause()
        self._update_notice()

    def action_interval(self, step: int) -> None:
        """Play slower or faster."""
        self._player.faster(step)
        self._update_notice()

    def action_seek(self, seconds: int) -> None:
        """Go forwards or backwards."""
        self._player.seek(seconds)
        self._update_notice()

    def action_event(self, step: int) -> None:
        """Go to the next or the previous event."""
        if not self._player.go_to_event(step):
            self._say("There is no later event." if step > 0 else "There is no earlier event.")
        self._update_notice()

    def _update_notice(self) -> None:
        self.notice = self._notice()

    def _notice(self) -> str:
        player = self._player
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(player.position_ns() // 10**9))
        if player.is_in_a_gap():
            state = "not recorded"
        elif player.is_paused:
            state = "at its end" if player.is_at_its_end else "paused"
        else:
            state = f"{player.speed:g}×"
        begun, ended = (time.localtime(ns // 10**9) for ns in (player.recording.begun_at_ns, player.recording.ended_at_ns))
        form = "%H:%M:%S" if begun[:3] == ended[:3] else "%d %b %H:%M"
        span = f"{time.strftime(form, begun)} to {time.strftime(form, ended)}"
        return f"REPLAY  {at}  {state}  {KEYS}  ({span})  {self._title}"
