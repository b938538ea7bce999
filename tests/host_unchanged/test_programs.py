"""Every program of the table observes the same without the sidecar, beside it, and after it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from host_unchanged.observing import plain
from host_unchanged.recording import Recording, differences
from host_unchanged.table import Mode, Program, groups, programs_of

pytestmark = pytest.mark.timeout(500)

Recordings = Callable[[str], Mapping[Mode, Recording]]
ALL = [program for group in groups() for program in programs_of(group)]


@pytest.mark.parametrize("mode", [Mode.BESIDE, Mode.AFTER], ids=lambda mode: mode.value)
@pytest.mark.parametrize("program", ALL, ids=lambda program: f"{program.group}.{program.name}")
def test_the_program_comes_out_the_same(program: Program, mode: Mode, recordings: Recordings) -> None:
    recorded = recordings(program.group)
    without = recorded[Mode.WITHOUT].programs.get(program.name)
    found = recorded[mode].programs.get(program.name)
    assert without is not None, recorded[Mode.WITHOUT].stderr
    if "missing" in without:
        pytest.skip(without["missing"])
    assert "raised" not in without, without["raised"]
    assert found is not None, f"the host died:\n{recorded[mode].stderr}"
    if different := list(differences(without, found)):
        pytest.fail("\n".join(different), pytrace=False)


@pytest.mark.parametrize("mode", [Mode.BESIDE, Mode.AFTER], ids=lambda mode: mode.value)
@pytest.mark.parametrize("group", groups())
def test_the_process_ends_the_same(group: str, mode: Mode, recordings: Recordings) -> None:
    without, found = recordings(group)[Mode.WITHOUT], recordings(group)[mode]
    assert without.exit_code == 0, without.stderr
    ends = [(each.exit_code, plain(each.stdout), plain(each.stderr)) for each in (without, found)]
    assert ends[0] == ends[1]
