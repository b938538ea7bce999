"""Files of all released versions, and of versions to come: each is decoded, or says which viewer it needs."""

from __future__ import annotations

import importlib.util
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgpack
import pytest

from gpumodels_shared.codec import encode
from gpumodels_shared.decoding import DecodeError, decode
from gpumodels_shared.layout import MAJOR, MINOR
from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import replace
from gpumodels_tui.oneshot import table
from gpumodels_tui.sources.feed import ProcessState, SnapshotFeed, Unreadable
from gpumodels_tui.view.builder import build_view
from snapshots import NOON_NS, a_catalogue, a_feed, some_hardware, with_trees

Reached = Callable[[str, str], None]

GOLDEN: Final = Path(__file__).parents[1] / "golden"
FILES: Final = sorted(GOLDEN.glob("*.gpm"))


def builder() -> ModuleType:
    """Import tests/golden/make_golden.py, which lies in no package."""
    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE_GOLDEN: Final = builder()

CHANGED: Final = """The format changed. Is this version released? Then raise the minor (new fields with defaults) or major version
(anything else) in layout.py, run tests/golden/make_golden.py, and keep the old file. If it isn't: just run that."""


def shown(directory: Path, content: bytes) -> ProcessState | Unreadable:
    """The row that a viewer shows for a file with this content."""
    directory.chmod(0o700)
    path = directory / "4711-123456-0a0a0a0a.gpm"
    path.write_bytes(MAKE_GOLDEN.grown(content))
    feed = SnapshotFeed([directory])
    try:
        state = feed.poll()
    finally:
        feed.close()
    rows: list[ProcessState | Unreadable] = [*state.processes, *state.unreadable]
    assert len(rows) == 1
    return rows[0]


def sealed(content: bytes, offset: int, change: bytes) -> bytes:
    """The content with other bytes in the header, and the checksum that belongs to them."""
    changed = bytearray(content)
    changed[offset : offset + len(change)] = change
    struct.pack_into("<I", changed, 104, zlib.crc32(changed[:104]))
    return bytes(changed)


def test_every_golden_file_is_shown_or_says_which_viewer_it_needs(tmp_path: Path, reached: Reached) -> None:
    decoded = 0
    for file in FILES:
        row = shown(tmp_path, file.read_bytes())
        if isinstance(row, Unreadable):
            assert "gpumodels-tui" in row.reason, file.name
            continue
        assert row.problem is None
        assert row.snapshot is not None
        assert row.snapshot.models, file.name
        decoded += 1
    reached("golden", f"{', '.join(file.stem for file in FILES)}: {decoded} of {len(FILES)} decode")
    assert f"schema-{MAJOR}.{MINOR}.gpm" in [file.name for file in FILES], "each version has its file"


def test_this_versions_golden_file_is_what_this_code_writes_and_reads(tmp_path: Path) -> None:
    content = (GOLDEN / f"schema-{MAJOR}.{MINOR}.gpm").read_bytes()
    assert content == MAKE_GOLDEN.golden_bytes(), CHANGED
    row = shown(tmp_path, content)
    assert isinstance(row, ProcessState)
    assert with_trees(row) == MAKE_GOLDEN.SNAPSHOT
    assert (row.pid, row.liveness, row.snapshot_at_ns) == (4711, Liveness.EXITED, MAKE_GOLDEN.TAKEN_AT_NS)


def test_the_golden_snapshot_uses_every_field_of_the_schema() -> None:
    """Otherwise a change to an unused field would go unnoticed. A new field must be added to tests/golden/make_golden.py."""

    def unused(value: object, name: str = "snapshot") -> list[str]:
        if isinstance(value, tuple):
            return unused(value[0], f"{name}[0]") if value else [name]
        if not is_dataclass(value):
            return [name] if value in (None, {}, "", 0) else []
        return [path for field in fields(value) for path in unused(getattr(value, field.name), f"{name}.{field.name}")]

    of_other_models = {"parent": MAKE_GOLDEN.SNAPSHOT.models[1].parent, "leftover_of": MAKE_GOLDEN.SNAPSHOT.models[2].leftover_of}
    assert all(of_other_models.values())
    expected = {f"snapshot.models[0].{name}" for name in of_other_models}
    assert {path for path in unused(MAKE_GOLDEN.SNAPSHOT) if not path.startswith("snapshot.models[0].tree")} == expected


def test_a_newer_minor_version_with_unknown_keys_is_shown(tmp_path: Path) -> None:
    def with_more(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {key: with_more(inner) for key, inner in value.items()}
            # Maps that are not of the schema's own (bytes by device, metadata) hold no schema's keys.
            return (
                {"from_the_future": {"deep": [1, None]}, **kept}
                if {"pid", "id", "device", "names", "models"} & set(value)
                else kept
            )
        return [with_more(inner) for inner in value] if isinstance(value, list) else value

    document = with_more(msgpack.unpackb(encode(MAKE_GOLDEN.SNAPSHOT)))
    assert decode(msgpack.packb(document)) == MAKE_GOLDEN.SNAPSHOT
    golden = (GOLDEN / f"schema-{MAJOR}.{MINOR}.gpm").read_bytes()
    row = shown(tmp_path, sealed(golden, 10, struct.pack("<H", MINOR + 7)))
    assert isinstance(row, ProcessState)
    assert with_trees(row) == MAKE_GOLDEN.SNAPSHOT


def test_an_older_minor_version_lacks_what_has_a_default() -> None:
    document = msgpack.unpackb(encode(MAKE_GOLDEN.SNAPSHOT))
    del document["health"], document["warnings"]
    for field in ("name_source", "confidence", "candidates", "metadata", "tree", "slot"):
        del document["models"][0][field]
    snapshot = decode(msgpack.packb(document))
    assert (snapshot.warnings, snapshot.models[0].candidates, snapshot.models[0].tree) == ((), (), None)
    del document["models"][0]["name"]
    with pytest.raises(DecodeError, match="name"):
        decode(msgpack.packb(document))


def test_a_newer_major_version_says_that_it_needs_a_newer_viewer(tmp_path: Path, reached: Reached) -> None:
    golden = (GOLDEN / f"schema-{MAJOR}.{MINOR}.gpm").read_bytes()
    row = shown(tmp_path, sealed(golden, 8, struct.pack("<H", MAJOR + 1)))
    assert isinstance(row, Unreadable)
    assert row.reason == f"format {MAJOR + 1}.{MINOR}: needs a newer gpumodels-tui"
    damaged = shown(tmp_path, golden[:8] + struct.pack("<H", MAJOR + 1) + golden[10:])
    assert isinstance(damaged, Unreadable)
    assert "newer" not in damaged.reason, "what is damaged promises no cure"
    reached("golden", f"{MAJOR}.{MINOR + 7} shown, {MAJOR + 1}.0 says that it needs a newer viewer")


def test_the_golden_snapshot_can_be_printed(tmp_path: Path) -> None:
    row = shown(tmp_path, (GOLDEN / f"schema-{MAJOR}.{MINOR}.gpm").read_bytes())
    assert isinstance(row, ProcessState)
    printed = table(build_view(a_feed(replace(row, liveness=Liveness.LIVE)), some_hardware(), a_catalogue()), NOON_NS)
    assert "Wan2_2-T2V-A14B-HIGH" in printed
    assert os.linesep in printed
