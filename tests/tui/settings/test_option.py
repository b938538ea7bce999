"""The names that follow from an option's name."""

from __future__ import annotations

from gpumodels_tui.settings.kinds import DIRECTORY
from gpumodels_tui.settings.option import Option, listed


def test_the_names_of_an_option_follow_from_one() -> None:
    option = Option("min-bytes", "")
    assert (option.destination, option.key, option.in_environment) == ("min_bytes", ("min-bytes",), "GPUMODELS_TUI_MIN_BYTES")
    option = Option("with-pid", "", command="metrics")
    assert (option.key, option.in_environment) == (("metrics", "with-pid"), "GPUMODELS_TUI_METRICS_WITH_PID")
    assert Option("dir", "", variable="GPUMODELS_DIR").in_environment == "GPUMODELS_DIR"


def test_a_list_is_empty_if_nobody_gives_one() -> None:
    assert listed("gpu", "").unset == ()
    assert Option("user", "").unset is None
    assert Option("top", "", default=100).unset == 100


def test_a_text_of_several_values_is_split_where_the_option_says() -> None:
    assert listed("gpu", "").split("0,,1") == ["0", "1"]
    assert listed("models", "", kind=DIRECTORY, separator=":").split("/a,b:/c") == ["/a,b", "/c"]
    assert listed("dir", "", separator="").split("/a:b,c") == ["/a:b,c"]
