"""The file for bug reports: whole, for its owner only, and without what was planted everywhere."""

from __future__ import annotations

import gzip
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.doctor.bundle import write_bundle
from gpumodels_tui.doctor.checks import CHECKS
from gpumodels_tui.doctor.findings import Result, warned
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.doctor.running import answer
from machines import a_machine
from snapshots import GIB, a_model, a_process, a_snapshot, an_identity, published

PLANTED = {
    "home": "/home/plantedhome",
    "user": "planteduser",
    "host": "plantedhost",
    "argument": "planted-argument",
    "option": "planted-option",
    "secret": "planted-secret",
    "metadata": "planted-metadata",
    "folder": "planted-folder",
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    environment = {
        "HOME": PLANTED["home"],
        "USER": PLANTED["user"],
        "HOSTNAME": PLANTED["host"],
        "HF_TOKEN": PLANTED["secret"],
        "OTHER": "planted-other",
        "TERM": "xterm",
        "GPUMODELS_DIR": f"{PLANTED['home']}/files",
        "VLLM_PLUGINS": f"a,{PLANTED['secret']}",
    }
    files = tmp_path / "files"
    files.mkdir()
    return a_machine(files, models=[Path(f"{PLANTED['home']}/models")], environment=environment)


@pytest.fixture
def writer(machine: Machine) -> SnapshotWriter:
    command = ("python", "main.py", "--prompt", PLANTED["argument"], f"--key={PLANTED['option']}")
    info = a_process(f"ComfyUI/main.py of {PLANTED['user']}", os.getpid(), command=command)
    model = a_model(
        f"wan {PLANTED['argument']}",
        GIB,
        files=[f"/data/{PLANTED['folder']}/wan.safetensors"],
        candidates=[f"{PLANTED['home']}/a.safetensors"],
        metadata={"comment": PLANTED["metadata"]},
    )
    snapshot = a_snapshot(model, process=info, warnings=[f"{PLANTED['home']}/x on {PLANTED['host']}: {PLANTED['option']}"])
    return published(machine.directories[0], snapshot, an_identity(), 60_000)


def test_what_was_planted_is_nowhere_in_it(machine: Machine, writer: SnapshotWriter, tmp_path: Path) -> None:
    results = [Result(check.id, answer(check, machine)) for check in CHECKS if check.id != "host.vllm_plugins"]
    everything = " ".join(f"/x/{text}" for text in PLANTED.values() if text not in (PLANTED["metadata"], PLANTED["folder"]))
    results.append(Result("planted", (warned(everything, f"Ask {PLANTED['user']}@{PLANTED['host']}."),)))
    path = tmp_path / "report.tar.gz"
    write_bundle(path, results, machine)
    writer.abandon()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    whole = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
    assert "planted-other" not in whole
    for what, text in PLANTED.items():
        assert text not in whole, what
    assert str(Path.home()) + "/" not in whole
    assert os.uname().nodename not in whole
    with tarfile.open(path) as archive:
        names = archive.getnames()
        owners = {(entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) for entry in archive}
        parts = {name.rpartition("/")[2]: archive.extractfile(name) for name in names}
        processes_file, environment_file, doctor_file = (parts[f"{name}.json"] for name in ("processes", "environment", "doctor"))
        assert processes_file is not None
        assert environment_file is not None
        assert doctor_file is not None
        (process,) = json.load(processes_file)
        environment = json.load(environment_file)
        doctor = json.load(doctor_file)
    assert sorted(parts) == ["README.txt", "doctor.json", "doctor.txt", "environment.json", "processes.json"]
    assert owners == {(0, 0, "", "", 0)}
    assert (process["state"], process["label"]) == ("live", "ComfyUI/main.py of <user>")
    assert process["models"][0]["files"] == ["wan.safetensors"]
    assert process["models"][0]["bytes_by_device"] == {"cpu": GIB}
    assert environment["variables"] == {"GPUMODELS_DIR": "~/files", "TERM": "xterm", "VLLM_PLUGINS": "a,<secret>"}
    assert [check["id"] for check in doctor["checks"]][:2] == ["viewer.python", "viewer.packages"]


def test_a_file_that_exists_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "report.tar.gz"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_bundle(path, [Result("a", (warned("b", "c"),))], machine)
    assert path.read_text() == "mine"


def test_a_process_that_has_published_nothing_is_told(machine: Machine, tmp_path: Path) -> None:
    machine.directories[0].chmod(0o700)
    made = SnapshotWriter(machine.directories[0], an_identity(), 60_000)
    path = tmp_path / "report.tar.gz"
    write_bundle(path, [Result("a", (warned("b", "c"),))], machine)
    made.abandon()
    assert '"state": "live"' in gzip.decompress(path.read_bytes()).decode()
