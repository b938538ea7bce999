"""The number keys that choose a device, for all screens that have them."""

from __future__ import annotations

from typing import Final

from textual.binding import Binding

ALL: Final = "all"
"""Stands for all devices instead of a device's key."""
LAST_NUMBER: Final = 9


def device_keys(screen: str, all_devices: str, *, show: bool = True) -> list[Binding]:
    """Bindings for `1` to `9` and `0`. The nine digits share one entry in the footer and in the help.

    Args:
        screen: The prefix of the bindings' ids.
        all_devices: The tooltip of `0`.
        show: Whether the digits are in the footer.
    """
    meaning = "Choose a device by its number"
    first = Binding("1", "device(1)", "Device", show=show, key_display="1-9", id=f"{screen}.device_1", tooltip=meaning)
    others = [
        Binding(str(number), f"device({number})", "Device", show=False, id=f"{screen}.device_{number}")
        for number in range(2, LAST_NUMBER + 1)
    ]
    return [first, *others, Binding("0", "all_devices", "All", show=False, id=f"{screen}.all", tooltip=all_devices)]
