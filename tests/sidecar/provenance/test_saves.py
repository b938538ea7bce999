from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest

from gpumodels.provenance import saves
from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.saves import SavedValues


def samples(*numbers: int) -> list[RawSample]:
    return [RawSample("float32", (16,), bytes([number]) * 64) for number in numbers]


@pytest.fixture(autouse=True)
def _a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """1, 2, 3, … nanoseconds: one more at each save."""
    monkeypatch.setattr(saves, "time", SimpleNamespace(time_ns=count(1).__next__))


def test_when_values_were_first_saved_is_known_by_most_of_them() -> None:
    saved = SavedValues()
    kept = [RawSample("float32", (16,), bytes([number]) * 64) for number in range(4)]
    assert saved.first_ns(kept) is None
    saved.note(kept[:1])
    assert saved.first_ns(kept) is None
    saved.note(kept[1:2])
    first = saved.first_ns(kept)
    assert first is not None
    saved.note(kept)
    assert saved.first_ns(kept) == first
    assert saved.first_ns([]) is None


def test_the_first_save_counts_and_not_the_last() -> None:
    saved = SavedValues()
    for _ in range(3):
        saved.note(samples(1, 2))
    assert saved.first_ns(samples(1, 2)) == 1


def test_the_moment_is_when_half_of_the_values_had_been_saved() -> None:
    saved = SavedValues()
    for number in range(4):
        saved.note(samples(number))
    assert saved.first_ns(samples(0, 1, 2, 3)) == 2
    assert saved.first_ns(samples(0, 1, 2)) == 2
    assert saved.first_ns(samples(3)) == 4
    assert saved.first_ns(samples(0, 8, 9)) is None


def test_values_of_another_dtype_or_shape_are_others() -> None:
    saved = SavedValues()
    (kept,) = samples(1)
    saved.note([kept])
    assert saved.first_ns([kept._replace(dtype="int8")]) is None
    assert saved.first_ns([kept._replace(shape=(4, 4))]) is None
    assert saved.first_ns([RawSample(*kept)]) == 1


def test_of_very_many_values_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saves, "MAX_KEPT", 2)
    saved = SavedValues()
    saved.note(samples(1))
    saved.note(samples(2, 3))
    assert [saved.first_ns(samples(number)) for number in (1, 2, 3)] == [None, 2, 2]
