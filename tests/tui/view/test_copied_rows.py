"""Rows say how many copies there are, view after view, and nothing is done again for what is as it was."""

from __future__ import annotations

import pytest

from gpumodels_shared.records import replace
from gpumodels_tui.view.copied_rows import CopiedRows, Placed
from gpumodels_tui.view.copies import Origin, Resident, origin_of
from gpumodels_tui.view.rows import ModelRow
from snapshots import GIB, a_process_state, a_snapshot
from views import a_row


def placed(process: str, *names: str, device: str = "gpu:0") -> Placed:
    state = a_process_state(a_snapshot(), key=process)
    rows = (replace(a_row(name, GIB, files=[f"/m/{name}"]), process_state=state) for name in names)
    return tuple((device, row) for row in rows)


def notes(rows: list[ModelRow]) -> list[str]:
    return [row.note for row in rows]


def test_rows_of_several_processes_are_counted_on_each_device() -> None:
    copied = CopiedRows()
    found = copied.by_device([placed("a", "wan", "vae"), placed("b", "wan"), placed("c", "wan", device="gpu:1")])
    assert notes(found["gpu:0"]) == ["one of 2 copies", "", "one of 2 copies"]
    assert notes(found["gpu:1"]) == [""]
    assert found["gpu:0"][0].copies == found["gpu:0"][2].copies
    assert found["gpu:0"][0].copies != found["gpu:0"][1].copies


def test_rows_without_certain_files_stay_the_same_objects() -> None:
    unknown = replace(a_row("m"), process_state=a_process_state(a_snapshot()))
    assert CopiedRows().by_device([(("gpu:0", unknown),)])["gpu:0"][0] is unknown


def test_a_note_is_kept() -> None:
    ((device, row),) = placed("a", "wan")
    found = CopiedRows().by_device([((device, replace(row, note="stalled")),), placed("b", "wan")])
    assert notes(found["gpu:0"]) == ["stalled, one of 2 copies", "one of 2 copies"]


def test_the_same_rows_are_compared_no_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = CopiedRows()
    first, second = placed("a", "wan", "vae"), placed("b", "wan")
    before = copied.by_device([first, second])
    asked: list[str] = []

    def counted(one: Resident) -> Origin | None:
        asked.append(one.id)
        return origin_of(one)

    monkeypatch.setattr("gpumodels_tui.view.copied_rows.origin_of", counted)
    assert copied.by_device([first, second]) is before
    assert asked == []
    again = copied.by_device([first, placed("b", "wan")])
    assert asked == ["wan"]  # of the process that changed
    assert [now is then for now, then in zip(again["gpu:0"], before["gpu:0"], strict=True)] == [True, True, False]


def test_a_copy_that_goes_is_no_longer_counted_and_one_that_comes_is() -> None:
    copied = CopiedRows()
    first = placed("a", "wan", "vae")
    copied.by_device([first, placed("b", "wan")])
    alone = copied.by_device([first])["gpu:0"]
    assert notes(alone) == ["", ""]
    twice = copied.by_device([first, placed("b", "vae")])["gpu:0"]
    assert notes(twice) == ["", "one of 2 copies", "one of 2 copies"]
    assert twice[0] is alone[0]
    assert copied.by_device([]) == {}
