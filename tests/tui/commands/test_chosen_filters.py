"""From options to filters."""

from __future__ import annotations

import os

from gpumodels_tui.commands.chosen_filters import chosen_filters
from gpumodels_tui.settings.parser import parser
from gpumodels_tui.settings.resolving import resolve
from gpumodels_tui.sources.feed import user_name
from gpumodels_tui.view.filters import NO_FILTERS, Filters


def filters_of(*arguments: str, environment: dict[str, str] | None = None) -> Filters:
    given = parser().parse_args(arguments)
    return chosen_filters(resolve(given, environment or {}, []).arguments(given))


def test_each_option_is_a_filter() -> None:
    assert filters_of() == NO_FILTERS
    words = [
        "--gpu",
        "0,1",
        "--gpu",
        "host",
        "--process",
        "a,b",
        "--job",
        "42",
        "--kind",
        "vae",
        "--min-bytes",
        "1k",
        "--name",
        "x",
    ]
    assert filters_of(*words, "--user", "ada") == Filters(("0", "1", "host"), ("a,b",), ("ada",), ("42",), ("vae",), 1024, ("x",))
    assert filters_of("metrics", "--user", "ada") == Filters(users=("ada",))


def test_a_uid_is_a_user() -> None:
    uid = os.geteuid()
    assert filters_of("--user", str(uid)).users == (user_name(uid),)
    assert filters_of("--user", "4242424").users == ("4242424",)
    assert filters_of("--user", "9" * 30).users == ("9" * 30,)


def test_an_empty_word_clears_what_the_environment_chose() -> None:
    assert filters_of(environment={"GPUMODELS_TUI_USER": "ada"}).users == ("ada",)
    assert filters_of("--user", "", environment={"GPUMODELS_TUI_USER": "ada"}).users == ()
