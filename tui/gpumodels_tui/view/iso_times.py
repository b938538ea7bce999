"""Moments as documents state them: ISO 8601, in UTC."""

from __future__ import annotations

from datetime import datetime, timezone


def time_text(realtime_ns: int | None) -> str | None:
    """`2026-05-28T20:26:40.000Z`; None for what is no time: another process wrote it."""
    if not realtime_ns or realtime_ns < 0:
        return None
    try:
        moment = datetime.fromtimestamp(realtime_ns / 1e9, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
