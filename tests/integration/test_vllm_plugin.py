"""The plugin for vLLM: built, installed into a folder, and loaded by the entry point as vLLM 0.32 loads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fused_server import save_checkpoint
from gpumodels_shared.liveness import Liveness
from gpumodels_tui.sources.feed import ProcessState, SnapshotFeed
from processes import wait_until

ROOT = Path(__file__).parents[2]
LOADER = """
import os, sys, threading, logging
logging.basicConfig()
from importlib.metadata import entry_points

# As vllm/plugins/__init__.py and vllm/envs.py do it.
allowed = None if "VLLM_PLUGINS" not in os.environ else os.environ["VLLM_PLUGINS"].split(",")
plugins = {one.name: one.load() for one in entry_points(group="vllm.general_plugins") if allowed is None or one.name in allowed}
print(sorted(plugins))
for _ in range(2):
    for start in plugins.values():
        start()
print([thread.name for thread in threading.enumerate() if thread.name == "gpumodels"])
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin, as pip puts it there from its wheel."""
    wheels, folder = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    source = shutil.copytree(ROOT / "plugins" / "gpumodels-vllm", wheels / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    built = subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", wheels, source], capture_output=True, text=True, timeout=300, check=False
    )
    if built.returncode and "Could not find a version" in built.stderr:
        pytest.skip("hatchling, which builds the wheel, can't be downloaded here")
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob("gpumodels_vllm-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder, wheel], check=True, timeout=300)
    return folder


def loaded(installed: Path, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    packages = (installed, ROOT / "sidecar", ROOT / "shared")
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("VLLM", "GPUMODELS"))}
    variables |= {"PYTHONPATH": os.pathsep.join(map(str, packages)), "GPUMODELS_DIR": str(directory), **environment}
    return subprocess.run([sys.executable, "-c", LOADER], env=variables, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("environment", "printed"),
    [
        ({}, "['gpumodels']\n['gpumodels']\n"),
        ({"VLLM_PLUGINS": "other,gpumodels"}, "['gpumodels']\n['gpumodels']\n"),
        ({"VLLM_PLUGINS": "other"}, "[]\n[]\n"),
        ({"VLLM_PLUGINS": ""}, "[]\n[]\n"),
        ({"GPUMODELS": "0"}, "['gpumodels']\n[]\n"),
    ],
)
def test_each_process_that_loads_plugins_has_one_sidecar_unless_it_is_left_out(
    installed: Path, tmp_path: Path, environment: dict[str, str], printed: str
) -> None:
    run = loaded(installed, tmp_path / "files", **environment)
    assert (run.returncode, run.stdout, run.stderr) == (0, printed, "")


@pytest.mark.parametrize("damage", ["raise RuntimeError('broken')", "def start(): raise RuntimeError('broken')"])
def test_a_sidecar_that_cannot_start_is_one_line_in_the_log(installed: Path, tmp_path: Path, damage: str) -> None:
    (tmp_path / "gpumodels").mkdir()
    (tmp_path / "gpumodels" / "__init__.py").write_text(damage)
    paths = os.pathsep.join(map(str, (tmp_path, installed)))
    run = loaded(installed, tmp_path / "files", PYTHONPATH=paths)
    assert (run.returncode, run.stdout) == (0, "['gpumodels']\n[]\n")
    assert set(run.stderr.splitlines()) == {"WARNING:gpumodels:the sidecar doesn't start in vLLM: RuntimeError: broken"}


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("how", "sources"), [("plain", {"values", "config"}), ("quantized", {"config"})])
def test_each_worker_of_an_engine_has_one_sidecar_and_its_part_has_the_models_name(
    installed: Path, tmp_path: Path, how: str, sources: set[str]
) -> None:
    """Weights are copied into fused parameters, a part for each rank; quantized ones have other values than any file."""
    save_checkpoint(tmp_path / "models" / "my-llama-7b")
    packages = (installed, ROOT / "sidecar", ROOT / "shared", ROOT / "tests")
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("VLLM", "GPUMODELS"))}
    variables |= {"PYTHONPATH": os.pathsep.join(map(str, packages)), "GPUMODELS_DIR": str(tmp_path / "files")}
    feed = SnapshotFeed([tmp_path / "files"])
    with subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "fused_server.py"), str(tmp_path / "models" / "my-llama-7b"), "2", how],
        env={**variables, "GPUMODELS_INTERVAL": "0.2"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as engine:
        assert engine.stdout is not None
        assert engine.stdin is not None
        told = json.loads(engine.stdout.readline())
        assert (told["engine"], list(told["workers"].values())) == (1, [1, 1])

        def of_workers() -> list[ProcessState]:
            return [process for process in feed.poll().processes if str(process.pid) in told["workers"]]

        def names() -> list[tuple[str, str]]:
            snapshots = [process.snapshot for process in of_workers()]
            return [(model.name, str(model.name_source)) for snapshot in snapshots if snapshot for model in snapshot.models]

        wait_until(lambda: len(names()) == 2 and not {source for _, source in names()} & {"pending", "class"}, 60)
        assert [name for name, _ in names()] == ["my-llama-7b"] * 2
        assert {source for _, source in names()} <= sources
        assert len(feed.poll().processes) == 3, "the engine and its workers, each once"
        engine.stdin.close()
        assert engine.wait(60) == 0
    wait_until(lambda: [process.liveness for process in of_workers()] == [Liveness.EXITED] * 2)
    feed.close()
