"""Who asks, and from where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.doctor import identities
from machines import a_machine, found, statuses
from snapshots import a_model, a_process, a_snapshot, an_identity, published

OTHER = 3_999_999_999


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user had a sidecar."""
    monkeypatch.setattr(identities, "every_users_directories", lambda: [Path(f"/dev/shm/gpumodels-{OTHER}")])


def a_writer(directory: Path) -> SnapshotWriter:
    return published(directory, a_snapshot(a_model("wan"), process=a_process(pid=os.getpid())), an_identity(), 60_000)


def test_root_reads_all(tmp_path: Path, hidden: None) -> None:
    machine = a_machine(tmp_path)
    machine.uid = 0
    assert statuses(identities.user, machine) == ["PASS"]


def test_another_users_sidecars_are_a_warning_where_you_have_none(tmp_path: Path, hidden: None) -> None:
    tmp_path.chmod(0o700)
    machine = a_machine(tmp_path)
    machine.uid = OTHER - 1
    ((status, text),) = found(identities.user, machine)
    assert status == "WARN"
    assert f"uid {OTHER} had some, which you may not read" in text


def test_beside_your_own_they_are_none(tmp_path: Path, hidden: None) -> None:
    writer = a_writer(tmp_path)
    machine = a_machine(tmp_path)
    machine.uid = OTHER - 1
    assert statuses(identities.user, machine) == ["PASS"]
    writer.abandon()


def test_alone_nobody_is_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "every_users_directories", list)
    machine = a_machine(tmp_path)
    machine.uid = OTHER - 1
    assert statuses(identities.user, machine) == ["PASS"]


@pytest.mark.parametrize(("group", "status"), [("no-such-group", "FAIL"), (str(os.getegid()), "PASS")])
def test_a_group_that_there_is_passes(tmp_path: Path, group: str, status: str) -> None:
    assert statuses(identities.user, a_machine(tmp_path, environment={"GPUMODELS_GROUP": group}))[0] == status


def test_a_group_of_others_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: OTHER)
    assert statuses(identities.user, a_machine(tmp_path, environment={"GPUMODELS_GROUP": "4711"}))[0] == "WARN"


def test_processes_of_this_namespace_pass(tmp_path: Path) -> None:
    writer = a_writer(tmp_path)
    assert found(identities.namespace, a_machine(tmp_path)) == [
        ("PASS", "processes whose pids are known: 1, of which in containers: 0")
    ]
    writer.abandon()


def test_a_process_of_another_namespace_warns(tmp_path: Path) -> None:
    writer = published(tmp_path, a_snapshot(a_model("wan")), an_identity(4711), 60_000)
    ((status, text),) = found(identities.namespace, a_machine(tmp_path))
    assert (status, "as number 4711 there" in text) == ("WARN", True)
    writer.abandon()


def test_a_container_with_a_gpu_warns_and_one_without_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "sees_all_pids", lambda: False)
    (tmp_path / "nvidiactl").touch()
    tmp_path.chmod(0o700)
    assert statuses(identities.namespace, a_machine(tmp_path, dev=tmp_path)) == ["WARN"]
    assert statuses(identities.namespace, a_machine(tmp_path, proc=tmp_path, dev=tmp_path / "none")) == ["PASS"]
