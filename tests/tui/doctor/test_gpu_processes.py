"""The driver, simulated, and real processes on its GPUs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fake_nvml import DRIVER_NOT_LOADED, FakeGpu, fake_nvml
from gpumodels_shared.records import replace
from gpumodels_tui.doctor import gpu_processes
from gpumodels_tui.outside.facts import KnownBy, OutsideFacts, OutsideModel
from gpumodels_tui.sources.gpus import GpuProcess
from machines import a_machine, found, statuses
from nvml.simulation import SimulatedNvml, compiler
from processes import run_python
from snapshots import GIB, H100, a_gpu, a_model, a_process, a_snapshot, an_identity, published, some_hardware


def test_a_machine_without_a_driver_passes(tmp_path: Path) -> None:
    assert statuses(gpu_processes.driver, a_machine(proc=tmp_path)) == ["PASS"]
    assert statuses(gpu_processes.processes, a_machine()) == ["PASS"]


def test_a_driver_without_its_library_fails(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()
    machine = a_machine(dev=tmp_path)
    machine.hardware = some_hardware()
    assert statuses(gpu_processes.driver, machine) == ["FAIL"]


def test_gpus_that_answer_pass_and_a_driver_that_does_not_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = fake_nvml(monkeypatch, FakeGpu(H100))
    assert found(gpu_processes.driver, a_machine()) == [("PASS", "GPU 0: NVIDIA H100 80GB HBM3, 80.0 GB")]
    nvml.init_code = DRIVER_NOT_LOADED
    ((status, text),) = found(gpu_processes.driver, a_machine())
    assert status == "FAIL"
    assert "Driver Not Loaded" in text


def test_processes_with_a_sidecar_pass_and_one_without_is_named(tmp_path: Path) -> None:
    info = a_process(pid=os.getpid())
    writer = published(tmp_path, a_snapshot(a_model("wan"), process=info), an_identity(), 60_000)
    machine = a_machine(tmp_path)
    machine.hardware = some_hardware(a_gpu(processes={os.getpid(): GIB}))
    assert found(gpu_processes.processes, machine) == [("PASS", "processes on GPUs: 1, of which with a sidecar: 1")]
    writer.close()
    machine = a_machine(tmp_path)
    machine.hardware = some_hardware(a_gpu(processes={os.getpid(): GIB}))
    said = found(gpu_processes.processes, machine)
    assert said[0][0] == "WARN"
    assert f"{os.getpid()} had a sidecar, which was stopped" in said[0][1]
    assert said[1] == ("PASS", "processes on GPUs: 1, of which with a sidecar: 0")


def test_what_is_seen_from_outside_is_said(tmp_path: Path) -> None:
    outside = OutsideFacts((OutsideModel(KnownBy.MAPPED, ("/m/a.gguf",)),))
    machine = a_machine(tmp_path)
    running = {os.getpid(): GpuProcess(os.getpid(), ("x",), "eve", 1, outside)}
    machine.hardware = replace(some_hardware(a_gpu(processes={os.getpid(): GIB})), running=running)
    assert ("PASS", f"{os.getpid()}, as seen from outside: a.gguf (mapped)") in found(gpu_processes.processes, machine)


def test_numbers_that_name_nobody_here_warn() -> None:
    machine = a_machine()
    machine.hardware = some_hardware(replace(a_gpu(), nameless={4711: GIB}))
    assert statuses(gpu_processes.processes, machine) == ["WARN", "PASS"]


@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_the_real_binding_on_a_simulated_library_is_asked(tmp_path: Path) -> None:
    nvml = SimulatedNvml(tmp_path)
    nvml.says(a_gpu(0, H100))
    program = (
        "from gpumodels_tui.doctor import gpu_processes; from machines import a_machine, found;"
        "print(found(gpu_processes.driver, a_machine()))"
    )
    environment = {**nvml.environment(), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = run_python(program, environment=environment)
    said = [("PASS", f"NVML is {tmp_path / 'libnvidia-ml.so.1'}"), ("PASS", "GPU 0: NVIDIA H100 80GB HBM3, 80.0 GB")]
    assert done.stdout == f"{said}\n", done.stderr
