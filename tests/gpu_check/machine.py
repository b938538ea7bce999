"""The device that is checked: a GPU of this machine, or the simulated accelerator; and what all parts of the check share."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from accelerator import simulated_device
from accelerator_cases import ATTACH
from hosts import Host, a_host
from provenance_cases import SETUP, START

ASK: Final = """
import json, torch
found = torch.cuda.is_available()
print(json.dumps([torch.cuda.get_device_name(0) if found else "", torch.cuda.device_count() if found else 0]))
"""
ON_CUDA: Final = """
import torch
D = "cuda:0"
"""
COMMON: Final = """
import time
import torch
from torch import nn
import gpumodels
device_module = torch.get_device_module(D)
"""


class Row(NamedTuple):
    """A line of the table."""

    part: str
    what: str
    found: str
    is_right: bool | None
    """None: it can't be checked on this device."""


class Machine(NamedTuple):
    """What is checked."""

    device: str
    """torch's name of the device."""
    second: str | None
    """And of another one; None if there is only one."""
    card: str
    setup: str
    """Run in a host first: gives it `D`, the device."""
    is_simulated: bool
    directory: Path
    """For files."""

    @contextmanager
    def host(self, name: str, settings: Mapping[str, str] | None = None, is_started: bool = True) -> Iterator[Host]:
        """A host with the device in which the sidecar runs, ten ticks a second; its snapshots go to a directory of this name."""
        environment = {"GPUMODELS_INTERVAL": "0.1", "GPUMODELS_SAMPLE_ACCELERATOR": "0", **(settings or {})}
        with a_host(self.directory / name, environment=environment) as host:
            for source in (SETUP, self.setup, *([START] if is_started else []), COMMON):
                host.tell(source)
            yield host


def the_machine(directory: Path, is_dry: bool) -> Machine | str:
    """This machine's first GPU, or the simulated accelerator on a dry run; in words, why there is none."""
    if is_dry:
        missing = simulated_device.unavailable()
        if missing is not None:
            return f"the simulated device {missing}"
        return Machine("npu:0", "npu:1", "simulated", ATTACH, True, directory)
    asked = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, timeout=120, check=False)
    if asked.returncode != 0:
        return f"torch does not run here: {asked.stderr.strip().splitlines()[-1] if asked.stderr.strip() else 'no reason given'}"
    card, count = json.loads(asked.stdout.splitlines()[-1])
    if not count:
        return "torch finds no CUDA device here"
    return Machine("cuda:0", "cuda:1" if count > 1 else None, card, ON_CUDA, False, directory)


class Clock:
    """How much time is left."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds; negative when it is over."""
        return self._until - time.monotonic()
