"""Makes watchdog believe that the kernel dropped events."""

from __future__ import annotations

import pytest


def lose_events() -> None:
    """As if inotify's queue had overflowed: watchdog handles the kernel's event of it in this thread; only 7.1 and newer can."""
    inotify = pytest.importorskip("watchdog.observers.inotify_c", reason="no inotify here")
    if not hasattr(inotify.InotifyConstants, "IN_Q_OVERFLOW"):
        pytest.skip("this watchdog ignores the event")
    inotify.InotifyFD.get_instance().handle_event(inotify.InotifyEvent(-1, inotify.InotifyConstants.IN_Q_OVERFLOW, 0, b""))
