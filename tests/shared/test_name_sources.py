"""Sources of names are text in snapshots, in JSON and in comparisons."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from gpumodels_shared.codec import encode
from gpumodels_shared.decoding import decode
from gpumodels_shared.name_sources import CONFIDENCE, FROM_FILES, KNOWN_FILE_CONFIDENCE, MIN_NAME_CONFIDENCE, NameSource
from gpumodels_tui.view.model_facts import SOURCES
from snapshots import a_model, a_snapshot

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_a_source_is_written_and_read_as_its_text() -> None:
    for source in NameSource:
        assert (f"{source}", str(source), json.dumps(source)) == (source.value, source.value, f'"{source.value}"')
        (model,) = decode(encode(a_snapshot(replace(a_model("m"), name_source=source)))).models
        assert model.name_source == source
        assert type(model.name_source) is str


def test_what_a_newer_sidecar_knows_a_name_by_is_read_all_the_same() -> None:
    (model,) = decode(encode(a_snapshot(replace(a_model("m"), name_source="a dream")))).models
    assert model.name_source == "a dream"


def test_the_stronger_a_source_the_surer_and_all_that_name_a_model_are_sure_enough() -> None:
    ordered = [CONFIDENCE[source] for source in NameSource if source in CONFIDENCE]
    assert ordered == sorted(ordered, reverse=True)
    assert min(ordered) >= MIN_NAME_CONFIDENCE > KNOWN_FILE_CONFIDENCE
    assert CONFIDENCE.keys() >= FROM_FILES


def test_each_source_is_worded_on_the_screen_and_documented() -> None:
    assert set(NameSource) - {NameSource.SUM} == set(SOURCES)
    rows = (DOCS / "metadata.md").read_text().splitlines()
    for source in set(NameSource) - {NameSource.SUM}:
        (row,) = [row for row in rows if row.startswith(f"| `{source}` |")]
        assert source not in CONFIDENCE or row.split(" | ")[1] == f"{CONFIDENCE[source]:g}"
