"""The demonstration as a newcomer meets it: the command, without a terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

NAMES = (
    "Wan2_2-T2V-A14B-HIGH (checkpoint, ",
    "VACE-Depth (model, ",
    "Wan2_1_VAE (vae, ",
    "umt5-xxl-enc (clip, ",
    "MyLoRA (lora, ",
)


def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "tmp").mkdir(exist_ok=True)
    return {**os.environ, "GPUMODELS_DIR": str(tmp_path / "gpm"), "TMPDIR": str(tmp_path / "tmp")}


def demo(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gpumodels", "demo", *arguments],
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_a_terminal_it_prints_the_table_of_its_models_and_ends(tmp_path: Path) -> None:
    done = demo(tmp_path, "--view")
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert sum(line.startswith(name) for line in done.stdout.splitlines()) == 1, done.stdout
    assert list((tmp_path / "tmp").glob("gpumodels-demo-*")) == []


def test_simulated_gpus_have_their_own_lists_and_say_that_they_are_simulated(tmp_path: Path) -> None:
    done = demo(tmp_path, "--view", "--simulate-gpus", "2")
    assert done.returncode == 0, done.stderr
    heads = [line for line in done.stdout.splitlines() if "80.0 GB" in line]
    assert len(heads) == 2
    assert all("simulated" in head for head in heads)
    rows = [line for line in done.stdout.splitlines() if "gpumodels demo" in line]
    assert all("gpumodels demo (simulated)" in row for row in rows)
    first, second = (done.stdout.index(head) for head in heads)
    assert first < done.stdout.index("Wan2_2-T2V-A14B-HIGH") < second < done.stdout.index("Wan2_2-T2V-A14B-LOW")


def test_it_ends_soon_and_leaves_no_files_when_it_is_told_to(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "gpumodels", "demo"], env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    ) as player:
        assert player.stdout is not None
        assert player.stdout.readline() == "ready\n"
        assert len(list((tmp_path / "tmp").rglob("*.safetensors"))) == 6
        player.send_signal(signal.SIGTERM)
        assert player.wait(20) == 0
    assert list((tmp_path / "tmp").glob("gpumodels-demo-*")) == []
