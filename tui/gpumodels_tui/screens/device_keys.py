"""The number keys that choose a device, on whatever screen they do."""

from __future__ import annotations

from typing import Final

from textual.binding import Binding

ALL: Final = "all"
"""Chosen instead of a device."""
MOST: Final = 9


def device_keys(screen: str, all_devices: str, *, show: bool = True) -> list[Binding]:
    """`1` to `9` and `0`. One line of the footer and of the help speaks for all nine.

    Args:
        screen: What the ids begin with.
        all_devices: What `0` is for.
        show: Whether they are in the footer.
    """
    says = "Choose a device by its number"
    first = Binding("1", "device(1)", "Device", show=show, key_display="1-9", id=f"{screen}.device_1", tooltip=says)
    others = [
        Binding(str(number), f"device({number})", "Device", show=False, id=f"{screen}.device_{number}")
        for number in range(2, MOST + 1)
    ]
    return [first, *others, Binding("0", "all_devices", "All", show=False, id=f"{screen}.all", tooltip=all_devices)]
