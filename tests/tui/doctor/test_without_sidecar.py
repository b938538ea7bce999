"""Why a real process has no sidecar."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpumodels_tui.doctor.findings import Finding
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.doctor.without_sidecar import START, why_without
from machines import a_machine
from processes import running_python

WAITS = "import sys; print('ready', flush=True); sys.stdin.readline()"
WITH_TORCH = f"import mmap, sys; file = open(sys.argv[1], 'rb'); held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); {WAITS}"
OUT_OF_THE_WAY = {"GPUMODELS_DIR": "", "GPUMODELS": "", "PYTHONPATH": ""}


@contextmanager
def a_child(*arguments: str, source: str = WAITS, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    with running_python(source, *arguments, environment={**OUT_OF_THE_WAY, **(environment or {})}) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid


def why(pid: int, machine: Machine) -> Finding:
    finding = why_without(pid, machine)
    assert finding is not None
    return finding


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """An environment's site-packages that has what looks like torch in a process's memory map."""
    library = tmp_path / "site-packages" / "torch" / "lib" / "libtorch_cpu.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"library")
    return tmp_path / "site-packages"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One that reads the default directory, where nobody's is."""
    monkeypatch.setattr("gpumodels_tui.doctor.without_sidecar.default_directory", lambda environment, uid: tmp_path / "default")
    return a_machine(tmp_path / "files")


def library_of(packages: Path) -> str:
    return str(packages / "torch" / "lib" / "libtorch_cpu.so")


def test_a_process_that_is_gone_is_nothing_to_explain(machine: Machine) -> None:
    assert why_without(2**22 + 1, machine) is None


def test_it_was_started_with_the_sidecar_off(machine: Machine) -> None:
    with a_child(environment={"GPUMODELS": "0"}) as pid:
        assert "was started with GPUMODELS=0" in why(pid, machine).text


def test_it_writes_elsewhere(machine: Machine, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    with a_child(environment={"GPUMODELS_DIR": str(other)}) as pid:
        finding = why(pid, machine)
        assert f"was started with GPUMODELS_DIR={other}, which isn't read here" in finding.text
        assert finding.next_step == f"Run: gpumodels-tui --dir {other}"
        assert "GPUMODELS_DIR" not in why(pid, a_machine(other)).text
    with a_child(environment={"GPUMODELS_DIR": "relative"}) as pid:  # to its working directory, as it was then
        assert "GPUMODELS_DIR" not in why(pid, machine).text


def test_it_may_write_to_the_default_directory_while_another_is_read(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "default").mkdir()
    with a_child() as pid:
        assert f"writes to {tmp_path / 'default'}, if it has a sidecar, which isn't read here" in why(pid, machine).text


def test_it_is_another_users(machine: Machine) -> None:
    machine.uid = 4711
    with a_child() as pid:
        assert "whose snapshots you may not read" in why(pid, machine).text


def test_it_is_no_python(machine: Machine) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        time.sleep(0)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{child.pid}/exe").readlink().name.startswith("python") and time.monotonic() < deadline:
            time.sleep(0.001)  # until it has become `sleep`
        finding = why(child.pid, machine)
        child.kill()
    assert (finding.status.value, finding.text) == ("PASS", f"sleep {child.pid} is no Python process that could have a sidecar")


def test_it_has_no_torch(machine: Machine) -> None:
    with a_child() as pid:
        finding = why(pid, machine)
    assert (finding.status.value, finding.next_step) == ("PASS", None)
    assert finding.text.endswith("has no torch loaded, so a sidecar would see no models")


def test_its_environment_lacks_gpumodels(machine: Machine, packages: Path) -> None:
    with a_child(library_of(packages), source=WITH_TORCH) as pid:
        assert f"gpumodels isn't installed beside its torch, in {packages}" in why(pid, machine).text


def test_it_has_gpumodels_but_started_none(machine: Machine, packages: Path) -> None:
    (packages / "gpumodels").mkdir()
    information = packages / "gpumodels-1.0.dist-info"
    information.mkdir()
    os.utime(information, (1e9, 1e9))
    with a_child(library_of(packages), source=WITH_TORCH) as pid:
        finding = why(pid, machine)
    assert finding.text.endswith(f"{pid} has started no sidecar")
    assert finding.next_step == START


def test_gpumodels_on_its_path_counts_as_well(machine: Machine, packages: Path, tmp_path: Path) -> None:
    (tmp_path / "source" / "gpumodels").mkdir(parents=True)
    with a_child(library_of(packages), source=WITH_TORCH, environment={"PYTHONPATH": str(tmp_path / "source")}) as pid:
        assert why(pid, machine).text.endswith(f"{pid} has started no sidecar")


@pytest.mark.parametrize(("seconds_before", "is_said"), [(100, True), (0.5, False)])
def test_it_was_started_before_gpumodels_was_installed_which_is_said_if_certain(
    machine: Machine, packages: Path, monkeypatch: pytest.MonkeyPatch, seconds_before: float, is_said: bool
) -> None:
    (packages / "gpumodels").mkdir()
    (packages / "gpumodels-1.0.dist-info").mkdir()
    monkeypatch.setattr("gpumodels_tui.doctor.without_sidecar.started_at_seconds", lambda pid: time.time() - seconds_before)
    with a_child(library_of(packages), source=WITH_TORCH) as pid:
        assert ("was started before gpumodels was installed" in why(pid, machine).text) == is_said


def test_a_script_is_called_by_its_name_and_never_by_its_arguments(machine: Machine, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(WAITS)
    command = [sys.executable, str(script), "--api-key", "planted"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **OUT_OF_THE_WAY}) as child:
        assert child.stdout is not None
        child.stdout.readline()
        text = why(child.pid, machine).text
        child.kill()
    assert text.startswith(f"train.py {child.pid} ")
    assert "planted" not in text


def test_it_runs_in_a_container(machine: Machine) -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    command = [unshare, "-Urpf", "--mount-proc", sys.executable, "-c", WAITS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        if not child.stdout.readline():
            pytest.skip("namespaces may not be made here")
        inside = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        text = why(int(inside[0]), machine).text
        child.stdin.close()
    assert "runs in a container, whose files aren't read here" in text
