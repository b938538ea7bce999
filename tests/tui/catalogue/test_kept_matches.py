"""Tests of how matches are packed for the disk, and of the keys that they are kept under."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpumodels_shared.fingerprint import ROUNDING, Match
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.catalogue.kept_matches import files_key, packed_matches, packed_stamp, unpacked_matches, values_key
from gpumodels_tui.catalogue.tree import Stamp

STAMP = Stamp(1, 77, 1_000, 5, 6)
SAMPLE = TensorSample("a", "float32", (4,), bytes(16))
KEYS = [bytes([number] * 8) for number in range(5)]


def test_matches_come_out_as_they_went_in() -> None:
    matches = {KEYS[0]: Match(13, 16), KEYS[1]: Match(0, 16), KEYS[2]: Match(13, 16)}
    assert unpacked_matches([packed_matches(matches)]) == matches
    (weighed,) = unpacked_matches([packed_matches({KEYS[0]: Match(13, 16, 1.5e9, 14e9)})]).values()
    assert (weighed.weight, weighed.compared_weight) == pytest.approx((1.5e9, 14e9), rel=ROUNDING)
    assert unpacked_matches([]) == unpacked_matches([packed_matches({})]) == {}


def test_of_several_rows_the_last_one_that_tells_of_a_file_counts() -> None:
    rows = [packed_matches({KEYS[0]: Match(1, 16), KEYS[1]: Match(2, 16)}), packed_matches({KEYS[0]: Match(3, 16)})]
    assert unpacked_matches(rows) == {KEYS[0]: Match(3, 16), KEYS[1]: Match(2, 16)}


def test_what_is_left_of_a_row_that_was_cut_off_is_read() -> None:
    row = packed_matches({KEYS[0]: Match(1, 16), KEYS[1]: Match(2, 16)})
    assert unpacked_matches([row[:-1]]) == {KEYS[0]: Match(1, 16)}


def test_of_too_many_matches_the_last_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels_tui.catalogue.kept_matches.MAX_KEPT", 2)
    packed = packed_matches({key: Match(number, 16) for number, key in enumerate(KEYS)})
    assert unpacked_matches([packed]) == {KEYS[3]: Match(3, 16), KEYS[4]: Match(4, 16)}


def test_the_same_values_have_one_key_whenever_they_were_seen() -> None:
    seen = Fingerprint((SAMPLE,), 5)
    assert values_key(seen) == values_key(replace(seen, taken_at_ns=9))
    others = [replace(SAMPLE, key="b"), replace(SAMPLE, dtype="int32"), replace(SAMPLE, shape=(2, 2)), replace(SAMPLE, data=b"1")]
    assert len({values_key(Fingerprint((sample,), 5)) for sample in (SAMPLE, *others)}) == 5


@pytest.mark.parametrize("field", ["inode", "size_bytes", "modified_ns", "changed_ns"])
def test_files_have_another_key_as_soon_as_one_of_them_changes(field: str) -> None:
    changed = replace(STAMP, **{field: 9})
    assert files_key((("/a", STAMP), ("/b", STAMP))) != files_key((("/a", STAMP), ("/b", changed)))


def test_files_have_another_key_under_another_name_and_keep_theirs_over_a_boot() -> None:
    assert files_key((("/a", STAMP),)) != files_key((("/b", STAMP),))
    assert files_key((("/a", STAMP),)) == files_key((("/a", replace(STAMP, device=99)),))


def test_times_that_no_clock_shows_and_names_that_are_no_unicode_can_be_packed() -> None:
    odd = Stamp(1, 2**64 - 1, 0, -1, 2**70)
    assert packed_stamp(odd) != packed_stamp(replace(odd, modified_ns=-2))
    assert files_key((("/caf\udce9", odd),)) != files_key((("/caf\udce8", odd),))
