"""What a scrape of 64 processes with 10 models each takes, beside nvitop-exporter on the same simulated driver.

`nvitop-exporter` is measured where it is installed: on PATH, or named by NVITOP_EXPORTER. It knows GPUs and processes, no models.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from benchmarks.viewer import limit, line, some_sidecars, two_gpus
from nvml.simulation import SimulatedNvml, compiler

SCRAPES: Final = 60
MOST_MS: Final = 50.0
PATIENCE_SECONDS: Final = 60.0
HEADERS: Final = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
"""Prometheus's."""


def scrape(port: int) -> tuple[float, bytes]:
    """Seconds until the last byte of the page arrived, and the page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    started = time.perf_counter()
    connection.request("GET", "/metrics", headers=HEADERS)
    answer = connection.getresponse()
    page = answer.read()
    taken = time.perf_counter() - started
    connection.close()
    return taken, gzip.decompress(page) if answer.getheader("Content-Encoding") == "gzip" else page


@contextlib.contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str], port: int, awaited: bytes) -> Iterator[psutil.Process]:
    """The service, once its page has these words."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as service:
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while True:
                with contextlib.suppress(OSError):
                    if awaited in scrape(port)[1]:
                        break
                if time.monotonic() > deadline or service.poll() is not None:
                    raise TimeoutError(f"{command[0]} never said {awaited!r}")
                time.sleep(0.1)
            yield psutil.Process(service.pid)
        finally:
            service.kill()


def processor_seconds(process: psutil.Process) -> float:
    """Processor time of the process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def measure(ports: Mapping[str, int], processes: Mapping[str, psutil.Process]) -> None:
    """Scrape the services in turns, and print what it took."""
    taken: dict[str, list[float]] = {name: [] for name in ports}
    busy: dict[str, float] = dict.fromkeys(ports, 0.0)
    pages: dict[str, bytes] = {}
    for _ in range(SCRAPES):
        for name, port in ports.items():
            before = processor_seconds(processes[name])
            seconds, pages[name] = scrape(port)
            busy[name] += processor_seconds(processes[name]) - before
            taken[name].append(seconds * 1e3)
            time.sleep(0.05)
    for name, page in pages.items():
        series = sum(not text.startswith(b"#") for text in page.splitlines())
        line(f"{name}: series, and size of the page", f"{series}, {len(page) / 1e3:.0f} kB")
        line(f"{name}: processor time of a scrape", f"{busy[name] / SCRAPES * 1e3:.1f} ms")
    others = [f"{name} {statistics.median(times):.1f} ms" for name, times in taken.items() if name != "gpumodels"]
    own = taken["gpumodels"]
    limit("64 × 10 models: a scrape, median", statistics.median(own), "ms", MOST_MS)
    line(f"64 × 10 models: slowest of {SCRAPES} scrapes", f"{max(own):.1f} ms")
    for other in others:
        line("beside it, median", other)


def main() -> None:
    """Print the table."""
    if compiler() is None:
        print("no C compiler: the simulated NVML can't be built")
        return
    other = os.environ.get("NVITOP_EXPORTER") or shutil.which("nvitop-exporter")
    if other is None:
        print("nvitop-exporter: not installed; set NVITOP_EXPORTER to its path")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root = Path(name)
        (root / "nvml").mkdir()
        nvml = SimulatedNvml(root / "nvml")
        nvml.says(*two_gpus(0))
        for writer in some_sidecars(root / "crowd", 64, 10, 60):
            stack.callback(writer.close)
        ports = {"gpumodels": free_port()}
        address = f"127.0.0.1:{ports['gpumodels']}"
        command = [
            sys.executable,
            "-m",
            "gpumodels_tui",
            "metrics",
            "--dir",
            str(root / "crowd"),
            "--top",
            "1000",
            "--listen",
            address,
        ]
        processes = {"gpumodels": stack.enter_context(serving(command, nvml.environment(), ports["gpumodels"], b"model-00-0"))}
        if other is not None:
            ports["nvitop-exporter"] = free_port()
            bound = ["--bind-address", "127.0.0.1", "--port", str(ports["nvitop-exporter"])]
            environment = {key: value for key, value in nvml.environment().items() if key != "PYTHONPATH"}
            exporter = serving([other, *bound], environment, ports["nvitop-exporter"], b"device")
            processes["nvitop-exporter"] = stack.enter_context(exporter)
        measure(ports, processes)
