"""What the hook of `gpumodels run` costs a Python that never imports torch: starts with and without it, in turn."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Final

from gpumodels.launching.hook_files import with_hook

PAIRS: Final = 60
PROGRAMS: Final = {
    "an empty program": "pass",
    "one that imports 300 modules": "import asyncio, http.client, unittest, xml.dom.minidom",
}


def main() -> None:
    """Print a line for each program."""
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")}
    hooked = with_hook(plain)
    for what, source in PROGRAMS.items():
        seconds(source, plain), seconds(source, hooked)  # the first start compiles
        later = []
        without = []
        for pair in range(PAIRS):
            first, second = (plain, hooked) if pair % 2 else (hooked, plain)
            taken = {id(given): seconds(source, given) for given in (first, second)}
            later.append(taken[id(hooked)] - taken[id(plain)])
            without.append(taken[id(plain)])
        print(
            f"start of Python, {what}: {statistics.median(without) * 1e3:.1f} ms, with the hook "
            f"{statistics.median(later) * 1e3:+.2f} ms, median of {PAIRS} pairs (target ≤ +5 ms)",
            flush=True,
        )


def seconds(source: str, environment: dict[str, str]) -> float:
    """How long a Python takes from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", source], env=environment, check=True)
    return time.perf_counter() - began
