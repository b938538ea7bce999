"""GPUs in a real viewer on a simulated NVML: lost, shared with the host, nonsense, in a container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpumodels_shared.identity import pid_namespace
from gpumodels_shared.pid_namespaces import FIRST_NAMESPACE
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.sources.gpu_reading import GpuReading
from nvml.simulation import SimulatedNvml, compiler
from snapshots import A100, GIB, H100, WAN, a_gpu, a_model, a_process, a_snapshot, an_identity, published
from terminals import Terminal

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
    pytest.mark.skipif(compiler() is None, reason="no C compiler"),
]

VIEWER = [sys.executable, "-m", "gpumodels_tui"]


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> SimulatedNvml:
    return SimulatedNvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """One process with a model on each of two GPUs."""
    chosen = tmp_path / "sidecars"
    chosen.mkdir(mode=0o700)
    model = a_model(WAN, bytes_by_device={"cuda:0": 2 * GIB, "cuda:1": 3 * GIB}, device="cuda:1")
    snapshot = a_snapshot(model, process=a_process(pid=os.getpid()))
    writer: SnapshotWriter = published(chosen, snapshot, an_identity(), heartbeat_ms=60_000)
    yield chosen
    writer.abandon()


def viewer(nvml: SimulatedNvml, directory: Path, *arguments: str) -> list[str]:
    """The command, with the simulated library before any other."""
    ours = {name: value for name, value in nvml.environment().items() if os.environ.get(name) != value}
    return ["env", *(f"{name}={value}" for name, value in ours.items()), *VIEWER, "--dir", str(directory), *arguments]


def document(nvml: SimulatedNvml, directory: Path) -> Any:
    done = subprocess.run(viewer(nvml, directory, "--json"), capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_a_gpu_that_is_lost_stays_and_nothing_is_said_to_have_happened(
    tmp_path: Path, directory: Path, nvml: SimulatedNvml
) -> None:
    """NVML 12.575 answers 15, "GPU is lost"; up to 0.1.0 its row vanished and the timeline said `shrank` and `grew`."""
    pid = os.getpid()
    gpus = (a_gpu(0, H100, processes={pid: 3 * GIB}), a_gpu(1, A100, processes={pid: 4 * GIB}))
    nvml.says(*gpus)
    with Terminal(tmp_path, viewer(nvml, directory)) as terminal:
        terminal.wait_for("GPU 1", "20.0 GB / 80.0 GB")
        terminal.press("2")
        terminal.wait_for(WAN, "3.0 GB")
        nvml.says(*gpus, lost=frozenset({1}))
        screen = terminal.wait_for("lost", "warning")
        assert "cuda:1" not in screen
        assert WAN in screen
        terminal.press("w")
        terminal.wait_for("GPU 1 (NVIDIA H100 80GB HBM3) is lost: GPU is lost.")
        terminal.press("w", "t")
        terminal.wait_for("Timeline", "loaded")
        nvml.says(*gpus)
        terminal.press("Escape")
        terminal.wait_until(lambda screen: screen.count("20.0 GB / 80.0 GB") == 2, "it did not come back")
        terminal.press("t")
        screen = terminal.wait_for("Timeline", "loaded")
        assert not any(word in screen for word in ("shrank", "grew", "unloaded", "moved", "offloaded"))


@pytest.mark.parametrize("ones", [2**32 - 1, 2**63 - 1])
def test_figures_of_all_ones_are_null(directory: Path, nvml: SimulatedNvml, ones: int) -> None:
    """NVML's own mark for a 32-bit value that isn't available; it stood there as `4294967295 %  4294967295 °C`."""
    nvml.says(GpuReading(0, H100, "NVIDIA H100", 80 * GIB, ones, ones, ones, ones / 1000))
    (gpu,) = document(nvml, directory)["gpus"]
    assert gpu["total_bytes"] == 80 * GIB
    figures = ("used_bytes", "utilization_percent", "temperature_celsius", "power_watts")
    assert [gpu[name] for name in figures] == [None] * 4


def test_a_gpu_without_memory_of_its_own_has_the_machines(directory: Path, nvml: SimulatedNvml) -> None:
    nvml.says(GpuReading(0, H100, "NVIDIA GB10", processes={os.getpid(): 9 * GIB}))
    (gpu,) = document(nvml, directory)["gpus"]
    total = psutil.virtual_memory().total
    assert (gpu["used_bytes"], gpu["total_bytes"], gpu["shares_host_memory"]) == (9 * GIB, total, True)


def test_a_driver_that_does_not_start_is_told_in_sentences(directory: Path, nvml: SimulatedNvml) -> None:
    nvml.says(init=18)
    warnings = [line for line in document(nvml, directory)["warnings"] if "driver" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("The NVIDIA driver doesn't answer (")
    assert " version mismatch). If it was updated, " in warnings[0], "nvidia-ml-py says it with a full stop of its own"


@pytest.mark.skipif(pid_namespace() != FIRST_NAMESPACE, reason="these tests run in a container themselves")
def test_in_a_container_no_process_is_accused(tmp_path: Path, directory: Path, nvml: SimulatedNvml) -> None:
    """The driver's pids are the machine's; one of them is `sleep 1000` here, which holds nothing."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-Urpf", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no PID namespace may be made here")
    nvml.says(a_gpu(processes=dict.fromkeys(range(2, 40), 9 * GIB)))
    script = 'sleep 1000 & "$@"; kill %1'
    command = [unshare, "-Urpf", "--mount-proc", "sh", "-c", script, "sh", *viewer(nvml, directory)]
    with Terminal(tmp_path, command) as terminal:
        terminal.wait_for("GPU 0")
        terminal.press("1")
        screen = terminal.wait_for("outside container", "9.0 GB")
        assert "sleep" not in screen


def test_slices_are_devices_below_their_gpu_with_totals_of_their_own(
    tmp_path: Path, directory: Path, nvml: SimulatedNvml
) -> None:
    slices = [
        GpuReading(number, f"MIG-{number}", f"NVIDIA H100 MIG {number + 1}g", (number + 1) * 10 * GIB, GIB, parent=H100)
        for number in range(2)
    ]
    nvml.says(a_gpu(0, H100), *slices, a_gpu(1, A100))
    found = document(nvml, directory)["gpus"]
    assert [(gpu["index"], gpu["uuid"], gpu["parent"], gpu["total_bytes"]) for gpu in found] == [
        (0, H100, None, 80 * GIB),
        (0, "MIG-0", H100, 10 * GIB),
        (1, "MIG-1", H100, 20 * GIB),
        (1, A100, None, 80 * GIB),
    ]
    with Terminal(tmp_path, viewer(nvml, directory), columns=120) as terminal:
        screen = terminal.wait_for("GPU 0.0  NVIDIA H100 MIG 1g", "GPU 0.1  NVIDIA H100 MIG 2g", "1.0 GB / 20.0 GB")
        # By its number alone a process is on none of them.
        assert "cuda:0 of ComfyUI/main.py" in screen
        terminal.press("1")
        terminal.wait_for("which is divided into slices")
