"""Which file was read when a model came: one checkpoint, about as large, at about that time, or none."""

from __future__ import annotations

import pytest

from gpumodels.naming.recency import AFTER_NS, BEFORE_NS, read_when_built
from gpumodels.provenance.files_read import ReadFile, Stamp

BORN_NS = 1_000 * 10**9
SIZE = 1_000_000


def read(path: str, moment_ns: int = BORN_NS, size: int | None = SIZE) -> ReadFile:
    """A file that was read at this moment; of no known size where that is None."""
    return ReadFile(path, 1, None, None if size is None else Stamp(1, size, 0), moment_ns)


@pytest.mark.parametrize(
    ("moment_ns", "fits"),
    [
        (BORN_NS - BEFORE_NS - 1, False),
        (BORN_NS - BEFORE_NS, True),
        (BORN_NS + AFTER_NS, True),
        (BORN_NS + AFTER_NS + 1, False),
    ],
)
def test_the_time_is_from_shortly_before_the_model_was_built_until_it_is_filled(moment_ns: int, fits: bool) -> None:
    assert read_when_built([[read("/m/a.pt", moment_ns)]], BORN_NS, SIZE) == (("/m/a.pt",) if fits else ())


@pytest.mark.parametrize(
    ("held_bytes", "fits"), [(SIZE, True), (4 * SIZE, True), (SIZE // 4, True), (5 * SIZE, False), (SIZE // 5, False), (0, False)]
)
def test_the_size_may_differ_by_a_cast_from_32_to_8_bits_and_no_more(held_bytes: int, fits: bool) -> None:
    assert bool(read_when_built([[read("/m/a.pt")]], BORN_NS, held_bytes)) == fits


def test_the_shards_of_a_checkpoint_are_one_file_of_their_common_size_and_all_were_read_then() -> None:
    shards = [read("/m/a-00001-of-00002.pt", size=SIZE), read("/m/a-00002-of-00002.pt", size=SIZE)]
    assert read_when_built([shards], BORN_NS, 8 * SIZE) == tuple(shard.path for shard in shards)
    late = [shards[0], read("/m/a-00002-of-00002.pt", BORN_NS + AFTER_NS + 1)]
    assert read_when_built([late], BORN_NS, 2 * SIZE) == ()


def test_of_several_checkpoints_none_is_the_hint_unless_only_one_of_them_fits() -> None:
    fits, fits_too, is_too_large = [read("/m/a.pt")], [read("/m/b.pt")], [read("/m/c.pt", size=100 * SIZE)]
    assert read_when_built([fits, fits_too], BORN_NS, SIZE) == ()
    assert read_when_built([is_too_large, fits], BORN_NS, SIZE) == ("/m/a.pt",)


def test_without_a_time_of_birth_or_a_size_there_is_no_hint() -> None:
    assert read_when_built([[read("/m/a.pt", moment_ns=0)]], 0, SIZE) == ()
    assert read_when_built([[read("/m/a.pt", size=None)]], BORN_NS, SIZE) == ()
    assert read_when_built([], BORN_NS, SIZE) == ()
