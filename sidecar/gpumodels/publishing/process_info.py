"""Describes the host process: its label, command line, versions and start time."""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Final

from gpumodels.publishing.job_info import own_container, part_of_job
from gpumodels.version import __version__
from gpumodels_shared.identity import ProcessIdentity, started_at_seconds
from gpumodels_shared.schema import ProcessInfo

_VAGUE_STEMS: Final = frozenset(
    {"main", "app", "train", "run", "server", "serve", "launch", "start", "script", "test", "__main__"}
)
WORKER_OPTION: Final = "--multiprocessing-fork"
DEVICE_CHOICE: Final = (
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ZE_AFFINITY_MASK",
    "ONEAPI_DEVICE_SELECTOR",
    "ASCEND_RT_VISIBLE_DEVICES",
    "HABANA_VISIBLE_DEVICES",
)
"""What chooses devices besides CUDA_VISIBLE_DEVICES: AMD's, Intel's, Huawei's and Habana's."""
MAX_ARGUMENTS: Final = 100
MAX_ARGUMENT_LENGTH: Final = 1000


def process_info(
    identity: ProcessIdentity,
    interval_seconds: float,
    label: str | None,
    environment: Mapping[str, str] = os.environ,
) -> ProcessInfo:
    """What doesn't change while the process lives. The version of torch is added later, once it is imported."""
    command = _command()
    part = part_of_job(environment, own_container())
    started = started_at_seconds(identity.pid)
    return ProcessInfo(
        pid=identity.pid,
        uid=identity.uid,
        label=label or _label_of_worker(command) or label_of(command, _working_directory()),
        command=command,
        started_at_ns=int(started * 1e9) if started is not None else time.time_ns(),
        python_version=platform.python_version(),
        sidecar_version=__version__,
        interval_seconds=interval_seconds,
        rank=part.rank,
        visible_devices=environment.get("CUDA_VISIBLE_DEVICES"),
        device_order=environment.get("CUDA_DEVICE_ORDER"),
        job=part.job,
        device_choice={name: environment[name][:MAX_ARGUMENT_LENGTH] for name in DEVICE_CHOICE if name in environment},
    )


def with_job_of(info: ProcessInfo, environment: Mapping[str, str] = os.environ) -> ProcessInfo:
    """The same with what the environment says by now: programs that start their ranks themselves set RANK in them later."""
    part = part_of_job(environment, None if info.job is None else info.job.container_id)
    return info if (part.job, part.rank) == (info.job, info.rank) else replace(info, job=part.job, rank=part.rank)


def label_of(command: Sequence[str], working_directory: PurePath) -> str:
    """A short name for a command line: `ComfyUI/main.py`, `vllm.entrypoints.openai.api_server`, `python`."""
    arguments = list(command[1:])
    while arguments and arguments[0].startswith("-") and arguments[0] not in ("-m", "-c"):
        arguments = arguments[2 if arguments[0] in ("-W", "-X") else 1 :]
    if not arguments:
        return PurePath(command[0]).name if command else "python"
    if arguments[0] == "-m" and len(arguments) > 1:
        if arguments[1] == "gpumodels" and len(arguments) > 2:
            return label_of(arguments[1:][1:], working_directory) if arguments[2] == "run" else f"gpumodels {arguments[2]}"
        return arguments[1]
    if arguments[0] == "-c":
        return "python -c"
    script = PurePath(arguments[0])
    if script.name == "gpumodels" and len(arguments) > 1 and arguments[1] != "run":
        return f"gpumodels {arguments[1]}"
    if script.name == "gpumodels" and len(arguments) > 2:
        return label_of(arguments[1:], working_directory)
    if script.stem in _VAGUE_STEMS:
        folder = script.parent.name or working_directory.name
        return f"{folder}/{script.name}" if folder else script.name
    return script.name


def _label_of_worker(command: Sequence[str]) -> str | None:
    """Of a process that multiprocessing spawned: the program that it is a part of, and its own name, `train.py SpawnProcess-1`.

    Its command line says only that it was spawned; its parent told it the rest.
    """
    if WORKER_OPTION not in command:
        return None
    name = multiprocessing.current_process().name
    return f"{label_of(['python', *sys.argv], _working_directory())} {name}" if name != "MainProcess" else None


def _working_directory() -> PurePath:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return PurePath()


def _command() -> tuple[str, ...]:
    """The command line that the process was started with, shortened if it is absurdly long."""
    try:
        parts = [os.fsdecode(part) for part in Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").split(b"\0")]
    except OSError:
        parts = [sys.executable, *sys.argv]
    return tuple(part[:MAX_ARGUMENT_LENGTH] for part in parts[:MAX_ARGUMENTS])
