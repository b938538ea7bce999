"""What the viewer costs, beside nvitop and an empty Textual application in the same minutes. Simulated GPUs, real processes.

`nvitop` is measured where it is installed: on PATH, or named by NVITOP. Each line has the ratio that its budget is about.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import resource
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

from benchmarks.builds import builds
from gpumodels_shared.schema import LayerTree
from gpumodels_shared.writer import SnapshotWriter
from gpumodels_tui.sources.gpu_reading import GpuReading
from nvml.simulation import SimulatedNvml, compiler
from snapshots import A100, GIB, H100, MIB, NOON_NS, a_device, a_model, a_process, a_snapshot, published

SIZES: Final = ((120, 40), (80, 24))
STEADY_SECONDS: Final = 20
QUIET_SECONDS: Final = 10
SETTLE_SECONDS: Final = 7
"""After a start: nvitop, too, draws more often at first."""
PAINTS: Final = 9
KEYS: Final = 100
ESCAPES: Final = 20
ONCE: Final = 9
FOLDERS: Final = 40
BEFORE: Final = "92a7800"
"""The last commit whose viewer decoded every layer tree of every snapshot."""
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

    def __init__(self, command: Sequence[str], environment: dict[str, str], size: tuple[int, int] = SIZES[0]) -> None:
        columns, lines = size
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.started = time.perf_counter()
        terminal = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(lines), "LC_ALL": "C.UTF-8"}
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

    def wait_for_more(self, start: int) -> float:
        """Seconds from the program's start until it has sent more than `start` bytes."""
        with self._news:
            while len(self.sent) <= start:
                if not self._news.wait(PATIENCE_SECONDS):
                    raise TimeoutError("nothing more was sent")
            return time.perf_counter() - self.started

    def cpu_seconds(self) -> float:
        """Processor time of the program and its children, by the scheduler's own clock."""
        return sum(map(_scheduled, self._processes()))

    def threads(self) -> int:
        """How many threads the program has, without its children."""
        return psutil.Process(self._process.pid).num_threads()

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


def _scheduled(process: psutil.Process) -> float:
    """Seconds on a processor: /proc has them in nanoseconds, psutil in hundredths of a second."""
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
    return float(sum(process.cpu_times()[:2]))


def measured(seconds: float, *programs: Watched) -> list[tuple[float, float]]:
    """Of each program, bytes sent per second, and per cent of a core used, in the same seconds."""
    before = [(len(program.sent), program.cpu_seconds()) for program in programs]
    started = time.perf_counter()
    time.sleep(seconds)
    after = [(len(program.sent), program.cpu_seconds()) for program in programs]
    took = time.perf_counter() - started
    return [
        ((sent - sent_before) / took, (cpu - cpu_before) / took * 100)
        for (sent_before, cpu_before), (sent, cpu) in zip(before, after, strict=True)
    ]


def viewer(directory: Path, *more: str) -> list[str]:
    """The command that runs the viewer on this directory."""
    return [sys.executable, "-m", "gpumodels_tui", "--dir", str(directory), "--models", str(directory), *more]


def nvitop() -> str | None:
    """Where nvitop is installed."""
    return os.environ.get("NVITOP") or shutil.which("nvitop")


def line(what: str, value: str, beside: str = "", ratio: float | None = None, most: float | None = None) -> None:
    """Print one line of the table: the figure, what it is compared with, their ratio, and its budget.

    Args:
        most: The largest ratio or, without a ratio, nothing.
    """
    shown = "" if ratio is None else f"{ratio:.2f} ×"
    budget = "" if most is None else f"≤ {most:g} ×"
    over = "  OVER" if ratio is not None and most is not None and ratio > most else ""
    print(f"{what:<50}{value:>16}  {beside:<28}{shown:>8}  {budget}{over}", flush=True)


def limit(what: str, value: float, unit: str, most: float) -> None:
    """Print one line of the table whose budget is a number of its own."""
    print(f"{what:<50}{f'{value:.4g} {unit}':>16}  {'':<36}  ≤ {most:g} {unit}{'  OVER' if value > most else ''}", flush=True)


def steady(nvml: SimulatedNvml, root: Path) -> None:
    """Measure a viewer of 20 models and nvitop at the same time, while values change each second, then while nothing changes."""
    writers = some_sidecars(root / "small", 4, 5, 60)
    other_command = nvitop()
    if other_command is None:
        print("nvitop: not installed; set NVITOP to its path")
    for size in SIZES:
        shape = f"{size[0]}×{size[1]}"
        with contextlib.ExitStack() as running:
            nvml.says(*two_gpus(0))
            programs = [running.enter_context(Watched(viewer(root / "small"), nvml.environment(), size))]
            programs[0].wait_for(b"model-00-0")
            if other_command is not None:
                programs.append(running.enter_context(Watched([other_command, "--monitor", "full"], nvml.environment(), size)))
            time.sleep(SETTLE_SECONDS)
            limit(f"bytes of a start, {shape}", len(programs[0].sent) / 1000, "kB", 12)
            with changing(nvml):
                time.sleep(2)
                (sent, cpu), *others = measured(STEADY_SECONDS, *programs)
            for other_sent, other_cpu in others:
                line(f"processor, {shape}", f"{cpu:.2f} %", f"nvitop {other_cpu:.2f} %", cpu / other_cpu, 0.5)
                line(f"bytes a second, {shape}", f"{sent:.0f}", f"nvitop {other_sent:.0f}", sent / other_sent, 0.25)
            if not others:
                line(f"processor, {shape}", f"{cpu:.2f} %")
                line(f"bytes a second, {shape}", f"{sent:.0f}")
            time.sleep(2)
            ((sent, cpu),) = measured(QUIET_SECONDS, programs[0])
            line(f"nothing changing but host memory, {shape}", f"{cpu:.2f} %", f"{sent:.1f} bytes a second")
            line(f"resident, {shape}", f"{programs[0].resident_bytes() / MIB:.1f} MB")
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
    ratio = statistics.median(own / other for own, other in zip(ours, empty, strict=True))
    beside = f"an empty app {statistics.median(empty):.3f} s"
    line("first models on the screen", f"{statistics.median(ours):.3f} s", beside, ratio, 1.1)
    for writer in writers:
        writer.close()


def crowd(nvml: SimulatedNvml, root: Path) -> None:
    """Measure a viewer of 64 processes with 10 models of 600 layers each, all in one list; its memory beside an earlier one's."""
    writers = some_sidecars(root / "crowd", 64, 10, 60)
    nvml.says(*two_gpus(0))
    resident: dict[str, float] = {}
    with builds(BEFORE) as roots:
        for build, source in roots.items():
            paths = os.pathsep.join(str(source / part) for part in ("tui", "shared", "sidecar"))
            with Watched(viewer(root / "crowd"), {**nvml.environment(), "PYTHONPATH": paths}) as program:
                program.wait_for(b"model-00-0")
                program.press(b"0")
                time.sleep(SETTLE_SECONDS)
                resident[build] = program.resident_bytes() / MIB
    with Watched(viewer(root / "crowd"), nvml.environment()) as program:
        program.wait_for(b"model-00-0")
        program.press(b"0")
        time.sleep(SETTLE_SECONDS)
        with changing(nvml):
            time.sleep(2)
            ((sent, cpu),) = measured(STEADY_SECONDS, program)
            taken = [_key(program, key) for key in (b"j", b"k") * (KEYS // 2)]
            escapes = [_key(program, b"\x1b", before=b"/") for _ in range(ESCAPES)]
    limit("64 × 10 models: processor", cpu, "%", 5)
    line("64 × 10 models: bytes a second", f"{sent:.0f}")
    limit(f"slowest of {KEYS} keys; median {statistics.median(taken) * 1e3:.0f} ms", max(taken) * 1e3, "ms", 50)
    limit(f"slowest of {ESCAPES} Esc; median {statistics.median(escapes) * 1e3:.0f} ms", max(escapes) * 1e3, "ms", 50)
    if "before" in resident:
        before = f"before {resident['before']:.0f} MB"
        line(
            "64 × 10 models × 600 layers: resident",
            f"{resident['today']:.0f} MB",
            before,
            resident["today"] / resident["before"],
            0.5,
        )
    else:
        line("64 × 10 models × 600 layers: resident", f"{resident['today']:.0f} MB")
    for writer in writers:
        writer.close()


def _key(program: Watched, key: bytes, before: bytes = b"") -> float:
    """Seconds from a key until something is drawn, pressed a while after the key `before` it."""
    if before:
        program.press(before)
        time.sleep(0.2)
    start = len(program.sent)
    pressed = time.perf_counter() - program.started
    program.press(key)
    seconds = program.wait_for_more(start) - pressed
    time.sleep(0.05)
    return seconds


def once(nvml: SimulatedNvml, root: Path) -> None:
    """Measure `--once` and `--json` of ten snapshots, in turns with `nvitop --once`: processor time of the whole process."""
    writers = some_sidecars(root / "ten", 10, 5, 60)
    nvml.says(*two_gpus(0))
    environment = {name: value for name, value in nvml.environment().items() if name != "PYTHONDONTWRITEBYTECODE"}
    commands = {name: viewer(root / "ten", name) for name in ("--once", "--json")}
    if (other := nvitop()) is not None:
        commands["nvitop"] = [other, "--once"]
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ONCE):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, env=environment, capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    for name in ("--once", "--json"):
        own = f"{statistics.median(taken[name]):.3f} s"
        if other is None:
            line(f"{name}, ten snapshots: processor", own)
        else:
            ratio = statistics.median(mine / theirs for mine, theirs in zip(taken[name], taken["nvitop"], strict=True))
            beside = f"nvitop --once {statistics.median(taken['nvitop']):.3f} s"
            line(f"{name}, ten snapshots: processor", own, beside, ratio, 0.5)
    writers += some_sidecars(root / "many", 64, 10, 20)
    for folder, what, most in (("ten", "ten snapshots", 0.15), ("many", "64 processes of ten models", 0.3)):
        for name in ("--once", "--json", "--csv"):
            seconds = min(_seconds_of(viewer(root / folder, name), environment) for _ in range(ONCE))
            limit(f"{name}, {what}: the whole process", seconds, "s", most)
    for writer in writers:
        writer.close()


def _seconds_of(command: Sequence[str], environment: dict[str, str]) -> float:
    begun_at = time.perf_counter()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    return time.perf_counter() - begun_at


def threads(nvml: SimulatedNvml, root: Path) -> None:
    """Count the threads of a viewer that watches many model folders."""
    writers = some_sidecars(root / "watching", 1, 1, 1)
    folders = [root / "models" / f"folder-{number}" for number in range(FOLDERS)]
    for folder in folders:
        (folder / "below").mkdir(parents=True)
    command = [sys.executable, "-m", "gpumodels_tui", "--dir", str(root / "watching")]
    command += [part for folder in folders for part in ("--models", str(folder))]
    with Watched(command, nvml.environment()) as program:
        program.wait_for(b"model-00-0")
        time.sleep(SETTLE_SECONDS)
        limit(f"threads while {FOLDERS} model folders are watched", program.threads(), "", 10)
    for writer in writers:
        writer.close()


def main() -> None:
    """Print the table."""
    if compiler() is None:
        print("no C compiler: the simulated NVML can't be built")
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "nvml").mkdir()
        nvml = SimulatedNvml(root / "nvml")
        nvml.says(*two_gpus(0))
        for part in (steady, first_paint, crowd, once, threads):
            part(nvml, root)
