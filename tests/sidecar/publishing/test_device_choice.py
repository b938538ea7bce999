"""Programs that choose their GPUs after they began: in time, too late, and nobody knows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gpumodels.publishing import device_choice
from gpumodels.publishing.device_choice import DeviceChoice
from gpumodels.publishing.process_info import process_info
from gpumodels_shared.identity import this_process
from gpumodels_shared.visible_devices import UNKNOWN_CHOICE

CHOSEN = "CUDA_VISIBLE_DEVICES"


class Program:
    """A process whose environment and CUDA a test changes between ticks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.environment: dict[str, str] = {}
        self.cuda = ModuleType("torch.cuda")
        self.is_driver_open = False
        monkeypatch.setitem(sys.modules, "torch.cuda", self.cuda)
        self._choice = DeviceChoice(self.environment, lambda: self.is_driver_open)
        self._info = process_info(this_process(), 1.0, None, {})

    def chosen(self) -> str | None:
        """What a tick makes of it."""
        self._info = self._choice.applied_to(self._info)
        return self._info.visible_devices


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Program:
    return Program(monkeypatch)


def test_what_a_program_sets_before_it_uses_a_gpu_counts_and_what_it_sets_later_does_not(program: Program) -> None:
    assert program.chosen() is None
    program.environment[CHOSEN] = "3"
    assert program.chosen() == "3"
    program.cuda.__dict__["_initialized"] = True
    assert program.chosen() == "3"
    program.environment[CHOSEN] = "0"
    assert program.chosen() == "3"


def test_what_was_set_and_used_within_one_tick_is_not_certain_and_stays_so(program: Program) -> None:
    assert program.chosen() is None
    program.environment[CHOSEN] = "1"
    program.cuda.__dict__["_initialized"] = True
    assert program.chosen() == UNKNOWN_CHOICE
    assert program.chosen() == UNKNOWN_CHOICE


def test_what_was_set_after_the_driver_was_opened_is_not_certain(program: Program) -> None:
    program.is_driver_open = True
    program.environment[CHOSEN] = "1"
    assert program.chosen() == UNKNOWN_CHOICE


def test_the_driver_is_open_while_one_of_its_files_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device_choice, "DRIVER_FILES", str(tmp_path / "nvidia"))
    assert not device_choice._has_driver_open()
    (tmp_path / "nvidia0").write_bytes(b"")
    descriptor = os.open(tmp_path / "nvidia0", os.O_RDONLY)
    try:
        assert device_choice._has_driver_open()
    finally:
        os.close(descriptor)
