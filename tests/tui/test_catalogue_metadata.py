"""Tests of which metadata travel."""

from __future__ import annotations

from gpumodels_tui.catalogue.metadata import (
    MAX_KEY_CHARACTERS,
    MAX_KEYS,
    MAX_TOTAL_CHARACTERS,
    MAX_VALUE_CHARACTERS,
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
