"""What the commands that ask a process have in common."""

from __future__ import annotations

from dataclasses import replace
from dataclasses import replace as replaced

import pytest

from gpumodels_shared.liveness import Liveness
from gpumodels_tui.commands.questions import does_answer, is_number, running, say_searching
from snapshots import a_feed, a_model, a_process, a_snapshot


def test_a_pid_is_a_number_or_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(is_number(pid) for pid in (None, "", "4711"))
    assert capsys.readouterr().err == ""
    assert not any(is_number(pid) for pid in ("47x", "-1", "\x1b[2J"))
    assert capsys.readouterr().err.count("not the number of a process") == 3


def test_only_living_processes_can_be_asked_and_of_a_pid_that_one() -> None:
    (one,) = a_feed(a_snapshot(a_model(), process=a_process(pid=4711))).processes
    ended = [replaced(one, liveness=liveness) for liveness in (Liveness.EXITED, Liveness.DEAD)]
    unread = replaced(one, snapshot=None)
    assert running((one, *ended, unread), None) == [one]
    assert running((one, *ended), str(one.shown_pid)) == [one]
    assert running((one, *ended), str(one.pid + 1)) == []


def test_a_process_that_does_not_answer_is_named_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    for answers in (True, False):
        snapshot = a_snapshot(a_model(), process=replace(a_process(pid=4711), answers=answers))
        (process,) = a_feed(snapshot).processes
        assert does_answer(process) is answers
    assert capsys.readouterr().err.count("GPUMODELS_ASK=0") == 1


def test_the_hold_is_told_in_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    say_searching(0.034)
    assert "34 ms" in capsys.readouterr().err
