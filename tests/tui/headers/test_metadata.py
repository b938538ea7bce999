"""Tests of which metadata travel."""

from __future__ import annotations

from gpumodels_tui.headers.metadata import (
    BRIEF_CHARACTERS,
    BRIEF_KEYS,
    MAX_KEY_CHARACTERS,
    MAX_KEYS,
    MAX_TOTAL_CHARACTERS,
    MAX_VALUE_CHARACTERS,
    brief_metadata,
    travelling_metadata,
)


def test_ordinary_metadata_travel_as_they_are() -> None:
    raw = {"modelspec.title": "Detail Slider", "ss_network_dim": "16", "ss_tag_frequency": '{"10_x": {"cat": 3}}'}
    assert travelling_metadata(raw) == raw


def test_a_thumbnail_stays_behind_whatever_its_key() -> None:
    picture = "data:image/jpeg;base64," + "A" * 50_000
    assert travelling_metadata({"modelspec.thumbnail": picture, "odd_key": picture, "title": "x"}) == {"title": "x"}


def test_a_bare_base64_picture_stays_behind_by_its_key() -> None:
    assert travelling_metadata({"preview_image": "iVBOR" * 10_000, "image": "https://example.org/a.png"}) == {
        "image": "https://example.org/a.png"
    }


def test_a_giant_value_is_cut_and_marked() -> None:
    value = travelling_metadata({"ss_tag_frequency": "x" * (MAX_VALUE_CHARACTERS + 1)})["ss_tag_frequency"]
    assert len(value) < 2_000
    assert value.endswith("…")


def test_a_value_at_the_limit_is_whole() -> None:
    whole = "x" * MAX_VALUE_CHARACTERS
    assert travelling_metadata({"workflow": whole}) == {"workflow": whole}


def test_large_values_never_push_out_small_ones() -> None:
    raw = {f"big{number}": "x" * 60_000 for number in range(20)} | {"title": "kept"}
    travelled = travelling_metadata(raw)
    assert travelled["title"] == "kept"
    assert sum(len(key) + len(value) for key, value in travelled.items()) <= MAX_TOTAL_CHARACTERS


def test_a_hundred_thousand_keys_become_a_thousand() -> None:
    assert len(travelling_metadata({f"key {number}": "v" for number in range(100_000)})) == MAX_KEYS


def test_a_giant_key_is_cut() -> None:
    (key,) = travelling_metadata({"k" * 100_000: "v"})
    assert len(key) == MAX_KEY_CHARACTERS


def test_of_a_file_that_nobody_asked_about_a_dozen_short_values_are_kept() -> None:
    travelled = {f"key {number}": "v" for number in range(100)} | {"ss_tag_frequency": "x" * 5_000}
    brief = brief_metadata(travelled)
    assert len(brief) == BRIEF_KEYS
    assert "ss_tag_frequency" not in brief
    assert sum(len(key) + len(value) for key, value in brief.items()) <= BRIEF_CHARACTERS


def test_few_metadata_are_kept_as_they_are() -> None:
    few = {"modelspec.title": "x"}
    assert brief_metadata(few) is few
