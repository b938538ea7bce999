"""What uids are called."""

from __future__ import annotations

import pwd


def user_name(uid: int) -> str:
    """`ada`; `uid 1001` if there is no such user here, as in a container."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
