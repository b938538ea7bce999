"""What the checks ask about."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels_shared.records import replace
from gpumodels_tui.doctor import machine as module
from machines import a_machine
from snapshots import a_model, a_snapshot, published


def test_the_directories_are_the_chosen_ones_else_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "other_users_directories", lambda group: [Path("/dev/shm/gpumodels-7")])
    assert a_machine(tmp_path, tmp_path / "b").directories == (tmp_path, tmp_path / "b")
    assert a_machine(environment={"GPUMODELS_DIR": str(tmp_path)}).directories == (tmp_path,)
    assert a_machine().directories[1:] == (Path("/dev/shm/gpumodels-7"),)


def test_files_are_read_once(tmp_path: Path) -> None:
    writer = published(tmp_path, a_snapshot(a_model("wan")))
    machine = a_machine(tmp_path)
    assert len(machine.feed.processes) == 1
    writer.path.unlink()
    assert len(machine.feed.processes) == 1
    writer.abandon()


def test_the_driver_is_there_if_the_kernel_says_so(tmp_path: Path) -> None:
    assert not a_machine(proc=tmp_path, dev=tmp_path).has_nvidia_driver
    (tmp_path / "nvidiactl").touch()
    assert a_machine(proc=tmp_path / "none", dev=tmp_path).has_nvidia_driver
    (tmp_path / "driver" / "nvidia").mkdir(parents=True)
    (tmp_path / "driver" / "nvidia" / "version").touch()
    assert a_machine(proc=tmp_path, dev=tmp_path / "none").has_nvidia_driver


def test_devices_are_read() -> None:
    assert a_machine().hardware.host_total_bytes


def test_a_chosen_group_goes_before_the_environments() -> None:
    environment = {"GPUMODELS_GROUP": "ours"}
    machine = a_machine(environment=environment)
    assert machine.group_in["GPUMODELS_GROUP"] == "ours"
    machine.sources = replace(machine.sources, group="theirs")
    assert machine.group_in["GPUMODELS_GROUP"] == "theirs"
