from __future__ import annotations

import logging

import pytest

from gpumodels.support.failures import Failures


def test_an_error_in_a_guard_is_counted_and_ends_there(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    reached: list[str] = []
    with failures.guard("reading a part"):
        reached.append("before")
        raise ValueError("odd")
    assert reached == ["before"]
    assert failures.count == 1
    assert [record.getMessage() for record in caplog.records] == ["reading a part failed; continuing without it: ValueError: odd"]


def test_each_kind_of_error_is_logged_once_for_each_place_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    failures = Failures()
    for where, error in (("a", ValueError(1)), ("a", ValueError(2)), ("a", KeyError(3)), ("b", ValueError(4))):
        failures.note(where, error)
    assert failures.count == 4
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["1", "3", "4"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_host_passes_through_a_guard(error: type[BaseException]) -> None:
    failures = Failures()
    with pytest.raises(error), failures.guard("reading"):
        raise error
    assert failures.count == 0


def test_a_guard_can_be_kept_and_entered_again() -> None:
    failures = Failures()
    guard = failures.guard("reading a tensor")
    for _ in range(2):
        with guard, guard:
            raise RuntimeError
    with guard:
        pass
    assert failures.count == 2


def test_where_the_host_set_up_no_logging_nothing_is_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    Failures().note("reading", ValueError("odd"))
    assert capfd.readouterr() == ("", "")
