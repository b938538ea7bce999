"""What the viewer costs on a terminal of 120×40: bytes, CPU, memory, first paint, key to repaint. Simulated GPUs, real processes.

`nvitop` stands beside where it is installed: on PATH, or named by NVITOP.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil

from gpumodels_shared.schema import LayerTree
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.sources.gpu_reading import GpuReading
from nvml.simulation import SimulatedNvml, compiler
from snapshots import A100, GIB, H100, MIB, NOON_NS, a_device, a_model, a_process, a_snapshot, published

COLUMNS, LINES = 120, 40
STEADY_SECONDS: Final = 20
QUIET_SECONDS: Final = 10
PAINTS: Final = 9
KEYS: Final = 100
PATIENCE_SECONDS: Final = 60.0
OLD_NS: Final = NOON_NS - 400 * 86_400 * 10**9
"""When the models were loaded: so long ago that their ages don't change while the benchmark runs."""

EMPTY_APP: Final = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("nothing here")
Empty().run()
"""


class Watched:
    """A program on a terminal of its own; a thread reads what it sends."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.started = time.perf_counter()
        terminal = {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES), "LC_ALL": "C.UTF-8"}
        # Without compiled files, a program in a checkout would be compared with libraries that have theirs.
        environment = {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"} | terminal
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.sent = bytearray()
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._process.wait()
        os.close(self._master)

    def press(self, key: bytes) -> None:
        """Send a key to the program, as if it were typed."""
        os.write(self._master, key)

    def wait_for(self, words: bytes, start: int = 0) -> float:
        """Seconds from the program's start until it has sent these words, at or after position `start` of its output."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._news:
            while self.sent.find(words, start) < 0:
                if not self._news.wait(max(deadline - time.monotonic(), 0.01)) and time.monotonic() > deadline:
                    raise TimeoutError(f"never sent {words!r}: {bytes(self.sent[-500:])!r}")
            return time.perf_counter() - self.started

    def cpu_seconds(self) -> float:
        """Processor time of the program and its children."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes())

    def resident_bytes(self) -> int:
        """Resident memory of the program, without its children."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def _processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            own = psutil.Process(self._process.pid)
            return [own, *own.children(recursive=True)]
        return []

    def _read(self) -> None:
        while select.select([self._master], [], [])[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            with self._news:
                self.sent += data
                self._news.notify_all()


def a_layered_tree(blocks: int) -> LayerTree:
    """A layer tree with about ten layers in each block."""
    names, depths, classes = [""], [0], [0]
    for block in range(blocks):
        names += [str(block), *(f"part{part}" for part in range(9))]
        depths += [1, *[2] * 9]
        classes += [1, *[2] * 9]
    memory = tuple((layer, 0, 0, MIB) for layer, depth in enumerate(depths) if depth == 2)
    return LayerTree(
        tuple(names),
        tuple(depths),
        ("Model", "Block", "Linear"),
        tuple(classes),
        (1000,) * len(names),
        ("cuda:0",),
        ("bfloat16",),
        memory,
    )


def some_sidecars(directory: Path, processes: int, models: int, blocks: int) -> list[SnapshotWriter]:
    """Publish the files of so many processes, every second one on the other GPU."""
    directory.mkdir(mode=0o700)
    writers = []
    for number in range(processes):
        tree = a_layered_tree(blocks)
        held = [
            a_model(
                f"model-{number:02d}-{position}", (models - position) * 64 * MIB, device="cuda:0", tree=tree, loaded_at_ns=OLD_NS
            )
            for position in range(models)
        ]
        uuid = (H100, A100)[number % 2]
        device = a_device("cuda:0", sum(model.resident_bytes for model in held), uuid, reserved_bytes=GIB, allocated_bytes=GIB)
        snapshot = a_snapshot(*held, process=a_process(f"worker-{number}", 50_000 + number), devices=[device])
        writers.append(published(directory, snapshot, heartbeat_ms=60_000))
    return writers


def two_gpus(second: int) -> tuple[GpuReading, GpuReading]:
    """Readings of two GPUs, with all values different each second."""
    return (
        GpuReading(
            0,
            H100,
            "NVIDIA H100 80GB HBM3",
            80 * GIB,
            (40 * GIB) + second * 90 * MIB,
            50 + second % 45,
            55 + second % 20,
            300.0 + second,
        ),
        GpuReading(
            1,
            A100,
            "NVIDIA H100 80GB HBM3",
            80 * GIB,
            (20 * GIB) + second * 70 * MIB,
            95 - second % 45,
            60 + second % 20,
            400.0 - second,
        ),
    )


@contextlib.contextmanager
def changing(nvml: SimulatedNvml) -> Iterator[None]:
    """Change the simulated values each second, in a thread."""
    stop = threading.Event()

    def run() -> None:
        second = 0
        while not stop.wait(1.0):
            second += 1
            nvml.says(*two_gpus(second))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measured(program: Watched, seconds: float) -> tuple[float, float]:
    """Bytes sent per second, and per cent of a core used."""
    bytes_before, cpu_before, started = len(program.sent), program.cpu_seconds(), time.perf_counter()
    time.sleep(seconds)
    took = time.perf_counter() - started
    return (len(program.sent) - bytes_before) / took, (program.cpu_seconds() - cpu_before) / took * 100


def viewer(directory: Path) -> list[str]:
    """The command that runs the viewer on this directory."""
    return [sys.executable, "-m", "gpumodels_tui", "--dir", str(directory), "--models", str(directory)]


def line(what: str, value: str, budget: str, holds: bool) -> None:
    """Print one line of the report."""
    print(f"{what:<58}{value:>16}   {budget:<24}{'' if holds else '  OVER'}", flush=True)


def steady(nvml: SimulatedNvml, root: Path) -> None:
    """Measure a viewer of 20 models while values change each second, then while nothing changes."""
    writers = some_sidecars(root / "small", 4, 5, 60)
    nvml.says(*two_gpus(0))
    with Watched(viewer(root / "small"), nvml.environment()) as program:
        program.wait_for(b"model-00-0")
        time.sleep(5)
        with changing(nvml):
            time.sleep(2)
            sent, cpu = measured(program, STEADY_SECONDS)
        line("bytes a second, values changing", f"{sent:.0f}", "≤ 300", sent <= 300)
        line("CPU, per cent of a core, values changing", f"{cpu:.2f} %", "≤ 0.8 %", cpu <= 0.8)
        time.sleep(2)
        sent, cpu = measured(program, QUIET_SECONDS)
        line("bytes a second, nothing changing but host memory", f"{sent:.1f}", "0", sent < 10)
        line("CPU, nothing changing", f"{cpu:.2f} %", "", True)
        resident = program.resident_bytes() / MIB
        line("resident", f"{resident:.1f} MB", "≤ 55 MB", resident <= 55)
    found = os.environ.get("NVITOP") or shutil.which("nvitop")
    if found is None:
        print("nvitop: not installed; set NVITOP to its path")
    else:
        with Watched([found, "--monitor", "full"], nvml.environment()) as other:
            time.sleep(7)
            with changing(nvml):
                sent, cpu = measured(other, STEADY_SECONDS)
            print(
                f"nvitop beside: {sent:.0f} bytes a second, {cpu:.2f} % of a core, {other.resident_bytes() / MIB:.1f} MB resident"
            )
    for writer in writers:
        writer.close()


def first_paint(nvml: SimulatedNvml, root: Path) -> None:
    """Measure the first paint, in turns with that of an empty Textual application."""
    writers = some_sidecars(root / "paint", 4, 5, 60)
    ours, empty = [], []
    for _ in range(PAINTS):
        with Watched([sys.executable, "-c", EMPTY_APP], dict(os.environ)) as program:
            empty.append(program.wait_for(b"nothing here"))
        with Watched(viewer(root / "paint"), nvml.environment()) as program:
            ours.append(program.wait_for(b"model-00-0"))
    ratio = statistics.median(ours) / statistics.median(empty)
    value = f"{statistics.median(ours):.2f} s, {ratio:.2f}×"
    line(f"first models on screen; empty app {statistics.median(empty):.2f} s", value, "≤ 1.3×", ratio <= 1.3)
    for writer in writers:
        writer.close()


def crowd(nvml: SimulatedNvml, root: Path) -> None:
    """Measure a viewer of 64 processes with 10 models of 600 layers each, all in one list."""
    writers = some_sidecars(root / "crowd", 64, 10, 60)
    nvml.says(*two_gpus(0))
    with Watched(viewer(root / "crowd"), nvml.environment()) as program:
        program.wait_for(b"model-00-0")
        program.press(b"0")
        time.sleep(6)
        with changing(nvml):
            time.sleep(2)
            sent, cpu = measured(program, STEADY_SECONDS)
            line("64 × 10 models: CPU, values changing", f"{cpu:.2f} %", "≤ 5 %", cpu <= 5)
            line("64 × 10 models: bytes a second", f"{sent:.0f}", "", True)
            taken = [_key(program, key) for key in (b"j", b"k") * (KEYS // 2)]
        late = statistics.quantiles(taken, n=20)[-1] * 1e3
        line(
            f"key to repaint, p95 of {KEYS}; median {statistics.median(taken) * 1e3:.0f} ms",
            f"{late:.0f} ms",
            "≤ 50 ms",
            late <= 50,
        )
        line("64 × 10 models: resident", f"{program.resident_bytes() / MIB:.1f} MB", "", True)
    for writer in writers:
        writer.close()


def _key(program: Watched, key: bytes) -> float:
    """Seconds from a key until the line under the cursor is drawn, which is in reverse video."""
    start = len(program.sent)
    pressed = time.perf_counter() - program.started
    program.press(key)
    seconds = program.wait_for(b";7m" if program.sent.find(b";7m") >= 0 else b"\x1b[7m", start) - pressed
    time.sleep(0.05)
    return seconds


def main() -> None:
    """Print a line for each budget."""
    if compiler() is None:
        print("no C compiler: the simulated NVML can't be built")
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "nvml").mkdir()
        nvml = SimulatedNvml(root / "nvml")
        nvml.says(*two_gpus(0))
        steady(nvml, root)
        first_paint(nvml, root)
        crowd(nvml, root)
