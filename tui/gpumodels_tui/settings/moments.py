"""The argument of `--since`: a time, or how long ago."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Final

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_DIGITS: Final = 12


def since_ns(text: str, now_ns: int) -> int:
    """Realtime nanoseconds of `10m`, `2h`, `1d`, an ISO time (`2026-05-28T20:26:40Z`; local without a zone), or a Unix time.

    Raises:
        ValueError: it is none of these.
    """
    if (found := re.fullmatch(rf"([0-9]{{1,{LONGEST_DIGITS}}})([smhd])", text)) is not None:
        return now_ns - int(found[1]) * SECONDS[found[2]] * 10**9
    if re.fullmatch(rf"[0-9]{{5,{LONGEST_DIGITS}}}(\.[0-9]{{1,9}})?", text):
        whole, _, fraction = text.partition(".")
        return int(whole) * 10**9 + int(fraction.ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", text))
        return int(moment.astimezone(timezone.utc).timestamp() * 1e6) * 1000
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{text!r} is no time: 10m, 2h, 1d, or 2026-05-28T20:26:40Z") from error
