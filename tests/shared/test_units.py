"""Bytes, ages and counts as people write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumodels_shared.units import describe_model, format_age, format_bytes, format_count

KB, MB, GB, TB, PB = (1024**power for power in range(1, 6))


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (1536, "1.5 KB"),
        (int(9.94 * KB), "9.9 KB"),
        (int(9.96 * KB), "10 KB"),
        (64 * KB, "64 KB"),
        (int(1023.4 * KB), "1023 KB"),
        (int(1023.96 * KB), "1.0 MB"),
        (MB - 1, "1.0 MB"),
        (MB, "1.0 MB"),
        (128 * MB, "128 MB"),
        (512 * MB, "512 MB"),
        (1023 * MB, "1023 MB"),
        (int(1023.6 * MB), "1.0 GB"),
        (GB - 1, "1.0 GB"),
        (GB, "1.0 GB"),
        (int(2.1 * GB), "2.1 GB"),
        (int(38.04 * GB), "38.0 GB"),
        (80 * GB, "80.0 GB"),
        (int(99.94 * GB), "99.9 GB"),
        (int(99.96 * GB), "100 GB"),
        (640 * GB, "640 GB"),
        (int(1023.9 * GB), "1.0 TB"),
        (int(1.5 * TB), "1.5 TB"),
        (5000 * PB, "5000 PB"),
        (-1536, "-1.5 KB"),
    ],
)
def test_bytes_are_written_as_people_write_them(count: int, shown: str) -> None:
    assert format_bytes(count) == shown


@given(st.integers(0, 2**60))
def test_no_size_below_the_last_unit_is_written_with_a_number_that_the_next_unit_would_take(count: int) -> None:
    shown = format_bytes(count)
    number, unit = re.fullmatch(r"([\d.]+) (B|KB|MB|GB|TB|PB)", shown).groups()  # type: ignore[union-attr]
    assert len(number) <= 4
    assert float(number) < 1024 or unit == "PB"
    assert abs(float(number) * 1024 ** ("B", "KB", "MB", "GB", "TB", "PB").index(unit) - count) <= 0.051 * max(count, 1)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (0.9, "0s"),
        (59.99, "59s"),
        (60, "1m"),
        (120, "2m"),
        (3599, "59m"),
        (3600, "1h"),
        (86_399, "23h"),
        (86_400, "1d"),
        (400 * 86_400, "400d"),
    ],
)
def test_ages_are_written_in_their_largest_unit(seconds: float, shown: str) -> None:
    assert format_age(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0 k"),
        (9_949, "9.9 k"),
        (12_000, "12 k"),
        (999_499, "999 k"),
        (999_500, "1.0 M"),
        (12_345_678, "12.3 M"),
        (337_000_000, "337 M"),
        (999_950_000, "1.0 B"),
        (14_288_000_000, "14.3 B"),
        (99_960_000_000, "100 B"),
        (1_000_000_000_000, "1.0 T"),
        (5_000_000_000_000_000, "5000 T"),
    ],
)
def test_parameters_are_counted_in_powers_of_a_thousand(count: int, shown: str) -> None:
    assert format_count(count) == shown


def test_a_model_is_described_in_one_line() -> None:
    described = describe_model("Wan2_2-T2V-A14B-HIGH", "checkpoint", int(2.1 * GB), 145)
    assert described == "Wan2_2-T2V-A14B-HIGH (checkpoint, 2.1 GB, 145 layers)"
    assert describe_model("tiny", "model", 512, 1) == "tiny (model, 512 B, 1 layer)"


def test_a_size_that_is_a_lower_bound_is_marked_as_one() -> None:
    assert describe_model("opaque", "model", 512, 2, unread_tensors=1) == "opaque (model, 512 B + unknown, 2 layers)"
