"""What texts stand for, and what is said of those that stand for nothing."""

from __future__ import annotations

import pytest

from gpumodels_tui.settings.kinds import SIZE, SWITCH, TEXT, Kind, choice, read, seconds, whole

GB = 1024**3


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (SIZE, "0", 0),
        (SIZE, "1", 1),
        (SIZE, "512MB", 512 * 1024**2),
        (SIZE, "2.5 GB", 5 * GB // 2),
        (SIZE, "1gib", GB),
        (SIZE, " 1g ", GB),
        (SIZE, "3B", 3),
        (SIZE, "1e3", 1000),
        (SWITCH, "1", True),
        (SWITCH, "Off", False),
        (TEXT, "a b", "a b"),
        (whole(), "0", 0),
        (whole(1), "7", 7),
        (seconds(), "0.25", 0.25),
        (choice("a", "b"), "b", "b"),
    ],
)
def test_a_text_stands_for_a_value(kind: Kind, text: str, value: object) -> None:
    assert read(kind, text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((SIZE, text) for text in ("", "MB", "1XB", "-1", "nan", "inf", "1e400", "9999999999GB", "1.2.3", "1 KB B", "1iB")),
        *((SWITCH, text) for text in ("", "2", "y e s")),
        *((whole(1), text) for text in ("0", "-1", "1.5", "")),
        *((seconds(), text) for text in ("0", "-1", "nan", "inf", "", "often", "3601")),
        (choice("a", "b"), "A"),
        (TEXT, "a\0b"),
    ],
)
def test_a_text_that_stands_for_nothing_is_told_with_what_it_must_be(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError, match="is not ") as told:
        read(kind, text)
    assert str(told.value) == f"{text!r} is not {kind.expects}"
