"""Samples of tensors on an accelerator, where the user asked for them: `start(sample_accelerator=True)`.

The one place where the sidecar makes the driver do anything: a small gathered copy a model, on a stream of its own. Any work
of another thread can break a CUDA graph while it is captured, so captures and copies exclude each other: a copy is left for a
later look while a graph is captured, and a capture that begins during a copy waits for its end, some milliseconds at most.
Captures that began before the sidecar did can't be seen.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from types import FrameType, ModuleType
from typing import Any, Final

from gpumodels.observing.observers import Observers
from gpumodels.observing.open_calls import OpenCalls
from gpumodels.provenance.host_samples import RawSample
from gpumodels.support.failures import Failures
from gpumodels.support.resident import resident
from gpumodels.support.weak_table import WeakTable
from gpumodels_shared.fingerprint import VALUES
from gpumodels_shared.floats import ITEM_BYTES

ACCELERATORS: Final = frozenset({"cuda", "xpu"})


@resident
class AcceleratorSampler:
    """Takes samples of plain tensors that lie on accelerators."""

    def __init__(self, torch: ModuleType, failures: Failures, device_types: frozenset[str] = ACCELERATORS) -> None:
        """`device_types` are what counts as an accelerator."""
        self._torch = torch
        self._failures = failures
        self._device_types = device_types
        self._plain_types = frozenset({torch.Tensor, torch.nn.Parameter})
        self._dtypes = {getattr(torch, name): (name, size * VALUES) for name, size in ITEM_BYTES.items() if hasattr(torch, name)}
        self._streams: dict[Any, Any] = {}
        self._copying = threading.Lock()
        """Held during a copy, and by who begins a capture while it notes that."""
        self._beginning: OpenCalls[bool] = OpenCalls()
        self._capturing: WeakTable[None] = WeakTable()
        """Graphs that are being captured."""
        self._left_some = False
        self.version = 0
        """Goes up when what was left because of a capture may be asked for again."""

    def observe(self, observers: Observers) -> None:
        """Begin with captures."""
        graph = getattr(self._torch.cuda, "CUDAGraph", None)
        begin = getattr(graph, "capture_begin", None)
        observers.observe(begin, "noting a capture", self._capture_begins, self._capture_began)
        observers.observe(getattr(graph, "capture_end", None), "noting a capture's end", returned=self._capture_ended)

    def take(self, tensors: Sequence[Any]) -> list[tuple[Any, RawSample]]:
        """Those of the tensors that can be sampled, each with its first values. Waits for the accelerator.

        Empty while a CUDA graph is captured: ask again at a later look.
        """
        by_device: dict[Any, list[tuple[Any, str, int]]] = {}
        for tensor in tensors:
            if type(tensor) not in self._plain_types or tensor.device.type not in self._device_types:
                continue
            known = self._dtypes.get(tensor.dtype)
            if known is not None and tensor.layout is self._torch.strided and tensor.numel() >= VALUES and tensor.is_contiguous():
                by_device.setdefault(tensor.device, []).append((tensor, *known))
        found: list[tuple[Any, RawSample]] = []
        for device, wanted in by_device.items():
            with self._failures.guard("sampling an accelerator"), self._copying:
                self._beginning.take_raised()
                if len(self._capturing) or len(self._beginning):
                    self._left_some = True
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
        """A stream of our own: on the default one, the copy would wait for all that the host has queued, and the host for it."""
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
            if self._left_some and not len(self._capturing):
                self._left_some = False
                self.version += 1
