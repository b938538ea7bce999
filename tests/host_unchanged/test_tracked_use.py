"""A host whose modules' calls are noted observes the same where it compiles, transforms and pickles modules."""

from __future__ import annotations

import pytest

from host_unchanged.recording import differences, record_group
from host_unchanged.table import Mode

pytestmark = pytest.mark.timeout(500)


@pytest.mark.parametrize("group", ["compiled", "pickled", "transformed"])
def test_programs_come_out_the_same_where_calls_are_noted(group: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    recorded = record_group(group, tmp_path_factory.mktemp(group), {"GPUMODELS_TRACK_USE": "1"})
    without = recorded[Mode.WITHOUT].programs
    assert without
    different: list[str] = []
    for mode in (Mode.BESIDE, Mode.AFTER):
        found = recorded[mode].programs
        assert found.keys() == without.keys(), recorded[mode].stderr
        for name, expected in without.items():
            if "missing" not in expected:
                different += [f"{name} {mode.value}: {line}" for line in differences(expected, found[name])]
    assert different == []
