"""`make bench`: the numbers, as ratios measured in one run. Name parts to run those alone: `python -m benchmarks scanning`."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from typing import Final

from benchmarks.builds import run_before

PARTS: Final = (
    "prompt",
    "starting",
    "launching",
    "scanning",
    "host",
    "observing",
    "loading",
    "catalogue",
    "recognising",
    "hostile",
    "viewer",
    "scraping",
    "asking",
    "use",
)


BEFORE_TOO: Final = frozenset({"scanning", "host", "loading"})
"""Benchmarks that the earlier build has as well; the others that compare with it run both builds themselves."""


def main() -> None:
    """Run each part and print its lines as they come."""
    print(f"python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    for part in sys.argv[1:] or PARTS:
        print(f"\n== {part}", flush=True)
        importlib.import_module(f"benchmarks.{part}").main()
        if part in BEFORE_TOO:
            run_before(part)


main()
