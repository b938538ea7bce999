"""Runs each group of programs once in its three modes, for all tests of the group."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from host_unchanged.recording import Recording, record_group
from host_unchanged.table import Mode

Recordings = Callable[[str], Mapping[Mode, Recording]]


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    """A function that gives, by mode, what a group's programs recorded."""
    done: dict[str, Mapping[Mode, Recording]] = {}

    def recorded(group: str) -> Mapping[Mode, Recording]:
        if group not in done:
            done[group] = record_group(group, tmp_path_factory.mktemp(group))
        return done[group]

    return recorded
