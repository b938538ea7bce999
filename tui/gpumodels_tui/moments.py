"""What was there at earlier moments, kept as documents that can be compared: see `comparing`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Final

from gpumodels_shared.liveness import Liveness
from gpumodels_shared.records import replace
from gpumodels_tui.comparing.documents import DeviceMemory, Document, Gpu, Job, Model, Process
from gpumodels_tui.sources.feed import FeedState, ProcessState
from gpumodels_tui.sources.gpus import HardwareState
from gpumodels_tui.view.device_names import HOST, Devices, devices_named, join_devices
from gpumodels_tui.view.iso_times import time_text
from gpumodels_tui.view.outside_torch import outside_torch, used_by

MOST_MOMENTS: Final = 64
SECONDS_APART: Final = 5
"""Where events follow one another sooner, the moment before the first of them stands for all."""


class UnknownMomentError(Exception):
    """Nothing is known of that moment; the text says why in one line."""


class Moments:
    """The moments just before events. What they take is bounded: about half a kilobyte for each model that was there."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, Document]] = deque(maxlen=MOST_MOMENTS)

    def note(self, at_ns: int, feed: FeedState, hardware: HardwareState) -> None:
        """Keep what is there now, or was until now, unless a moment shortly before it is kept."""
        if not self._kept or at_ns - self._kept[-1][0] >= SECONDS_APART * 10**9:
            self._kept.append((at_ns, document_of(feed, hardware, at_ns, os.uname().nodename)))

    def before(self, at_ns: int) -> Document:
        """The last moment that is kept and was before this one, realtime nanoseconds; the first one if none was.

        Raises:
            UnknownMomentError: none is kept yet.
        """
        kept = [*self._kept]
        if not kept:
            raise UnknownMomentError("nothing was seen yet")
        return next((document for taken_ns, document in reversed(kept) if taken_ns < at_ns), kept[0][1])


def document_of(feed: FeedState, hardware: HardwareState, at_ns: int, host: str | None) -> Document:
    """What the sources said at this moment, as `--json` would have, as far as it is compared."""
    there = tuple(process for process in feed.processes if process.liveness is not Liveness.EXITED)
    joined = join_devices(replace(feed, processes=there), hardware)
    gpus = tuple(
        Gpu(device.uuid, device.index, device.name, device.used_bytes)
        for device in joined.devices
        if device.key != HOST and device.is_distinct
    )
    processes = tuple(_process(process, joined, hardware) for process in feed.processes)
    return Document(1, processes, time_text(at_ns), host, gpus)


def _process(process: ProcessState, joined: Devices, hardware: HardwareState) -> Process:
    state, snapshot = process.liveness.value, process.snapshot
    if snapshot is None:
        return Process(process.pid, None, process.user, state)
    info = snapshot.process
    return Process(
        process.pid,
        info.label,
        process.user,
        state,
        time_text(info.started_at_ns),
        None if info.job is None else Job(info.rank),
        tuple(_memory(process, joined, hardware)),
        tuple(
            Model(
                model.id,
                model.name,
                model.kind,
                model.class_name,
                dict(model.bytes_by_device),
                model.offloaded_bytes,
                model.parameters,
                model.layers,
                tuple(model.files),
            )
            for model in snapshot.models
        ),
    )


def _memory(process: ProcessState, joined: Devices, hardware: HardwareState) -> Iterator[DeviceMemory]:
    for memory in devices_named(process):
        yield DeviceMemory(
            memory.device,
            memory.uuid,
            memory.allocated_bytes,
            memory.reserved_bytes,
            memory.gradients_bytes,
            memory.optimizer_bytes,
            memory.cache_bytes,
            memory.other_bytes,
            outside_torch(memory, used_by(process, memory.device, joined, hardware.gpus)),
        )
