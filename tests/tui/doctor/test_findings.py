from __future__ import annotations

from gpumodels_tui.doctor.findings import Result, Status, failed, passed, warned, worst


def test_a_check_is_as_bad_as_its_worst_finding() -> None:
    assert Result("a", (passed("x"), failed("x", "y"), warned("x", "y"))).status is Status.FAIL
    assert Result("a", (passed("x"), warned("x", "y"))).status is Status.WARN
    assert worst([]) is Status.PASS


def test_exit_codes_are_those_of_the_document() -> None:
    assert [status.exit_code for status in (Status.PASS, Status.WARN, Status.FAIL)] == [0, 1, 2]
