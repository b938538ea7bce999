"""Runs the demo: loads its models, then for ever offloads blocks and brings them back, swaps experts, and drops a LoRA."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from gpumodels import sidecar

if TYPE_CHECKING:
    from gpumodels.demo.model_loader import ModelLoader

ACTION_SECONDS: Final = 3.0
INTERVAL_SECONDS: Final = 0.25
READY_SECONDS: Final = 120.0
READY_LINE: Final = "ready"


def run_demo(simulated_gpus: int = 0, view: bool = False, seconds: float | None = None) -> int:
    """Run the demo until it is interrupted, or for so many seconds.

    Args:
        simulated_gpus: 0 for real weights in host memory, else so many simulated GPUs and full-size fake models.
        view: run the demo in a child process and the viewer on it here; without a terminal, the viewer prints one table.
        seconds: how long to run without `view`; None for no limit.

    Returns:
        The exit code: 0, the viewer's, or 1 with a line on stderr.
    """
    missing = _missing_packages(view)
    if missing:
        extra = "demo,tui" if view else "demo"
        print(f"gpumodels: the demo needs {' and '.join(missing)}; run: pip install 'gpumodels[{extra}]'", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="gpumodels-demo-") as directory:
        if view:
            return _view(Path(directory), simulated_gpus)
        given = os.environ.get("GPUMODELS_DEMO_DIRECTORY")
        return _run_models(Path(given or directory), simulated_gpus, seconds, hold=bool(os.environ.get("GPUMODELS_DEMO_HOLD")))


def _missing_packages(view: bool) -> list[str]:
    needed = ["torch", "safetensors", *(["gpumodels_tui", "textual"] if view else [])]
    return [name for name in needed if importlib.util.find_spec(name) is None]


def _view(directory: Path, simulated_gpus: int) -> int:
    """Run the demo in a child process and the viewer here; when the viewer ends, so does the demo."""
    on_terminal = sys.stdout.isatty()
    environment = {**os.environ, "GPUMODELS_DEMO_DIRECTORY": str(directory), "GPUMODELS_DEMO_HOLD": "" if on_terminal else "1"}
    command = [sys.executable, "-m", "gpumodels", "demo", "--simulate-gpus", str(simulated_gpus)]
    print("gpumodels: writing and loading the demo's models", file=sys.stderr)
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            if demo.stdout.readline().strip() != READY_LINE:
                return demo.wait() or 1
            viewer = [sys.executable, "-m", "gpumodels_tui", "--models", str(directory)]
            return subprocess.run(viewer, check=False).returncode
        finally:
            demo.send_signal(signal.SIGTERM)


def _run_models(directory: Path, simulated_gpus: int, seconds: float | None, hold: bool) -> int:
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    from gpumodels.demo.cast import real_specs, simulated_specs
    from gpumodels.demo.model_loader import FileLoader, SimulatedLoader

    model_loader: ModelLoader
    if simulated_gpus:
        specs = simulated_specs()
        model_loader = simulated = SimulatedLoader(specs, simulated_gpus)
        sidecar.start_with(simulated, interval=INTERVAL_SECONDS, label="gpumodels demo (simulated)")
    else:
        specs = real_specs()
        model_loader = real = FileLoader(specs, directory)
        real.write_files()
        sidecar.start(interval=INTERVAL_SECONDS, label="gpumodels demo")
    at_start = list(specs) if simulated_gpus else [role for role in specs if role != "low"]
    for role in at_start:
        model_loader.load(role)
    if not _wait_until_published({specs[role].name for role in at_start}, stopping):
        if stopping.is_set():
            return 0
        print("gpumodels: the demo's models could not be published; see GPUMODELS_DIR", file=sys.stderr)
        return 1
    print(READY_LINE, flush=True)
    until = time.monotonic() + (seconds if seconds is not None else float("inf"))
    actions = _actions(model_loader, both_experts=bool(simulated_gpus))
    while not stopping.wait(max(0.0, min(ACTION_SECONDS, until - time.monotonic()))) and time.monotonic() < until:
        if not hold:
            next(actions)()
    return 0


def _wait_until_published(names: set[str], stopping: threading.Event) -> bool:
    """Wait until viewers can see all of these models. Returns False on a timeout or a signal."""
    give_up = time.monotonic() + READY_SECONDS
    while time.monotonic() < give_up and not stopping.wait(0.02):
        if names <= sidecar.published_names():
            return True
    return False


def _actions(model_loader: ModelLoader, both_experts: bool) -> Iterator[Callable[[], None]]:
    """An endless sequence of actions, each with one effect that a viewer can see."""

    def swap_experts(out: str, into: str) -> None:
        model_loader.unload(out)
        model_loader.load(into)

    while True:
        yield lambda: model_loader.offload_half("high")
        yield lambda: model_loader.unload("lora")
        yield lambda: model_loader.bring_back("high")
        yield lambda: model_loader.load("lora")
        yield lambda: model_loader.unload("text")
        if not both_experts:
            yield lambda: swap_experts("high", "low")
        yield lambda: model_loader.offload_half("vace")
        yield lambda: model_loader.load("text")
        yield lambda: model_loader.bring_back("vace")
        if not both_experts:
            yield lambda: swap_experts("low", "high")
