"""Whose processes there are, and whose are shown next."""

from __future__ import annotations

from gpumodels_tui.view.rows import View


def users_in(view: View) -> list[str]:
    """Everybody who has a process in the view, in alphabetical order."""
    with_sidecar = {process.user for process in view.processes}
    return sorted(with_sidecar | {row.user for row in view.process_rows if row.state is None and row.user})


def next_users(view: View, shown: tuple[str, ...], me: str) -> tuple[str, ...]:
    """The users whose processes are shown after these: all, then mine, then each other's.

    Args:
        view: The view without filters.
        shown: The users whose processes are shown now; empty for all.
        me: The user of this viewer.
    """
    there = users_in(view)
    turns: list[tuple[str, ...]] = [(), *((me,) for user in there if user == me), *((user,) for user in there if user != me)]
    return turns[(turns.index(shown) + 1) % len(turns)] if shown in turns else ()
