"""Numbers as the tables write them: short, and calm."""

from __future__ import annotations

import pytest

from gpumodels_tui.widgets.quantities import bytes_cell, calm_age, calm_bytes, dtype_in, percent, process_cell, short_dtype
from screen_text import words
from snapshots import GIB, MIB


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "now"), (0, "now"), (9, "now"), (12, "10s"), (59.9, "50s"), (60, "1m"), (7300, "2h"), (200_000, "2d")],
)
def test_young_ages_step_by_ten_seconds(seconds: float, expected: str) -> None:
    assert calm_age(seconds) == expected


def test_shares_and_dtypes_are_written_short() -> None:
    assert [percent(share) for share in (0, 0.001, 0.07, 1)] == ["0%", "<1%", "7%", "100%"]
    assert [short_dtype(name) for name in ("bfloat16+", "float8_e4m3fn", "q4_k", "")] == ["bf16+", "fp8e4m3", "q4_k", ""]


def test_an_eight_bit_format_is_cut_to_what_matters_where_its_name_has_no_room() -> None:
    assert [dtype_in("float8_e4m3fn+", width) for width in (8, 7)] == ["fp8e4m3+", "fp8+"]
    assert [dtype_in("float8_e5m2", width) for width in (7, 6)] == ["fp8e5m2", "fp8"]
    assert [dtype_in("int4 GPTQ", width) for width in (9, 8)] == ["int4 GPTQ", "int4"]
    assert [dtype_in("fp8 scaled", width) for width in (10, 9)] == ["fp8 scaled", "fp8"]
    assert dtype_in("q4_k_medium", 5) == "q4_k_medium"  # the table cuts it


def test_bytes_that_change_all_the_time_have_no_decimals_from_ten_on() -> None:
    assert [calm_bytes(count) for count in (0, 512 * MIB, 99 * GIB // 10, 14 * GIB + GIB // 2)] == [
        "0 B",
        "512 MB",
        "9.9 GB",
        "14 GB",
    ]


def test_no_bytes_are_a_dash_so_that_the_eye_finds_what_there_is() -> None:
    assert words(bytes_cell(0)) == "–"
    assert words(bytes_cell(2 * GIB)) == "2.0 GB"


def test_a_process_keeps_its_pid_however_narrow_its_column() -> None:
    process = "ComfyUI/main.py 4711"
    assert words(process_cell(process, 20)) == process
    assert words(process_cell(process, 13)) == "ComfyUI… 4711"
    assert words(process_cell(process, 11)) == "Comfy… 4711"
    assert words(process_cell(process, 10)) == "4711"


def test_a_process_that_names_itself_with_controls_steers_no_terminal() -> None:
    assert words(process_cell("a\x1b[31mb 12", 30)) == "a\\x1b[31mb 12"
