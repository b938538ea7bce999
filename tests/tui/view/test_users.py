"""Whose processes are shown next."""

from __future__ import annotations

from gpumodels_shared.records import replace
from gpumodels_tui.view.rows import View
from gpumodels_tui.view.users import next_users, users_in
from views import a_gpu, a_live_process, a_row, a_view, an_unattached


def a_view_of(*users: str, with_unattached: bool = False) -> View:
    view = a_view(a_gpu(a_row(), unattached=[an_unattached()] if with_unattached else []))
    return replace(view, processes=tuple(replace(a_live_process(), user=user) for user in users))


def test_everybody_comes_first_then_i_then_each_other_in_order() -> None:
    view = a_view_of("zoe", "ada", "bob", with_unattached=True)
    assert users_in(view) == ["ada", "bob", "eve", "zoe"]
    turns: list[tuple[str, ...]] = [()]
    for _ in range(5):
        turns.append(next_users(view, turns[-1], "bob"))
    assert turns == [(), ("bob",), ("ada",), ("eve",), ("zoe",), ()]


def test_who_has_no_process_has_no_turn_and_who_has_left_is_followed_by_everybody() -> None:
    view = a_view_of("ada", "eve")
    assert next_users(view, (), "root") == ("ada",)
    assert next_users(view, ("zoe",), "root") == ()
    assert next_users(view, ("ada", "eve"), "root") == ()
    assert next_users(a_view_of(), (), "root") == ()
