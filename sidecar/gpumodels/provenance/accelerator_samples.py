"""Samples tensors on an accelerator, if the user asked for it: `start(sample_accelerator=True)`.

This is the only module that makes the driver do anything: one small gathered copy per model, on a stream of its own. Work of
another thread can break a CUDA graph during its capture, so captures and copies exclude each other: while a graph is captured, a
copy is postponed to a later scan, and a capture that begins during a copy waits for its end, a few milliseconds at most.
Captures that began before the sidecar started are not noticed.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from types import FrameType, ModuleType
from typing import Any

from gpumodels.observing.observers import Observers
from gpumodels.observing.open_calls import OpenCalls
from gpumodels.provenance.host_samples import RawSample
from gpumodels.support.accelerators import accelerators
from gpumodels.support.failures import Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.weak_table import WeakTable
from gpumodels_shared.fingerprint import VALUES
from gpumodels_shared.floats import ITEM_BYTES


@never_pickled
class AcceleratorSampler:
    """Takes samples of plain tensors on accelerators."""

    def __init__(self, torch: ModuleType, failures: Failures, device_types: Collection[str] | None = None) -> None:
        """`device_types`: the torch device types that count as accelerators, if not those that this torch has."""
        self._torch = torch
        self._failures = failures
        self._device_types = device_types
        self._plain_types = frozenset({torch.Tensor, torch.nn.Parameter})
        self._dtypes = {getattr(torch, name): (name, size * VALUES) for name, size in ITEM_BYTES.items() if hasattr(torch, name)}
        self._streams: dict[Any, Any] = {}
        self._copying = threading.Lock()
        """Held during a copy, and briefly by a thread that begins or ends a capture, while it notes that."""
        self._beginning: OpenCalls[bool] = OpenCalls()
        self._capturing: WeakTable[None] = WeakTable()
        """The graphs that are being captured."""
        self._has_postponed = False
        self.version = 0
        """Increases when samples that were postponed because of a capture can be taken."""

    def observe(self, observers: Observers) -> None:
        """Begin to observe captures of CUDA graphs."""
        graph = getattr(self._torch.cuda, "CUDAGraph", None)
        begin = getattr(graph, "capture_begin", None)
        observers.observe(begin, "noting a capture", self._capture_begins, self._capture_began)
        observers.observe(getattr(graph, "capture_end", None), "noting a capture's end", returned=self._capture_ended)

    def take(self, tensors: Sequence[Any]) -> list[tuple[Any, RawSample]]:
        """Sample those of the tensors that can be sampled, waiting for the accelerator.

        Returns:
            Each sampled tensor and its first values; nothing while a CUDA graph is captured: call again when `version` increases.
        """
        device_types = accelerators(self._torch) if self._device_types is None else self._device_types
        by_device: dict[Any, list[tuple[Any, str, int]]] = {}
        for tensor in tensors:
            if type(tensor) not in self._plain_types or tensor.device.type not in device_types:
                continue
            dtype = self._dtypes.get(tensor.dtype)
            if dtype is not None and tensor.layout is self._torch.strided and tensor.numel() >= VALUES and tensor.is_contiguous():
                by_device.setdefault(tensor.device, []).append((tensor, *dtype))
        found: list[tuple[Any, RawSample]] = []
        for device, wanted in by_device.items():
            with self._failures.guard("sampling an accelerator"), self._copying:
                self._beginning.take_raised()
                if len(self._capturing) or len(self._beginning):
                    self._has_postponed = True
                else:
                    found += self._copied(device, wanted)
        return found

    def _copied(self, device: Any, wanted: Sequence[tuple[Any, str, int]]) -> list[tuple[Any, RawSample]]:
        torch = self._torch
        with torch.no_grad(), self._stream_of(device):
            heads = [tensor.detach().view(-1)[:VALUES].view(torch.uint8) for tensor, _, _ in wanted]
            data = torch.cat(heads).cpu()
        raw = bytes(data.tolist())
        found: list[tuple[Any, RawSample]] = []
        start = 0
        for tensor, name, length in wanted:
            found.append((tensor, RawSample(name, tuple(tensor.shape), raw[start : start + length])))
            start += length
        return found

    def _stream_of(self, device: Any) -> Any:
        """A context with our own stream: on the default one, copy and host would wait for each other's queued work."""
        module = getattr(self._torch, device.type, None)
        if module is None or not hasattr(module, "Stream"):
            return nullcontext()
        if device not in self._streams:
            self._streams[device] = module.Stream(device)
        return module.stream(self._streams[device])

    def _capture_begins(self, frame: FrameType) -> None:
        with self._copying:
            self._beginning.begin(frame, True)

    def _capture_began(self, frame: FrameType, _result: Any) -> None:
        with self._copying:
            self._beginning.end(frame)
            self._capturing.put(frame.f_locals["self"], None)

    def _capture_ended(self, frame: FrameType, _result: Any) -> None:
        with self._copying:
            self._capturing.take(frame.f_locals["self"])
            if self._has_postponed and not len(self._capturing):
                self._has_postponed = False
                self.version += 1
