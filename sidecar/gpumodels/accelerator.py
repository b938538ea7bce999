"""Samples of tensors on an accelerator, where the user asked for them: `start(sample_accelerator=True)`.

The one place where the sidecar makes the driver do anything: a small gathered copy a model, on a stream of its own. Any work
of another thread can break a CUDA graph while it is captured, so captures and copies exclude each other: a copy is left for a
later look while a graph is captured, and a capture that begins during a copy waits for its end, some milliseconds at most.
Captures that began before the sidecar did can't be seen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import ModuleType
from typing import Any, Final

from gpumodels.failures import Failures
from gpumodels.sampling import RawSample
from gpumodels.wraps import Wraps
from gpumodels_shared.fingerprint import VALUES
from gpumodels_shared.floats import ITEM_BYTES

ACCELERATORS: Final = frozenset({"cuda", "xpu"})


class AcceleratorSampler:
    """Takes samples of plain tensors that lie on accelerators."""

    def __init__(self, torch: ModuleType, failures: Failures, device_types: frozenset[str] = ACCELERATORS) -> None:
        """`device_types` are what counts as an accelerator."""
        self._torch = torch
        self._failures = failures
        self._device_types = device_types
        self._wraps = Wraps()
        self._plain_types = frozenset({torch.Tensor, torch.nn.Parameter})
        self._dtypes = {getattr(torch, name): (name, size * VALUES) for name, size in ITEM_BYTES.items() if hasattr(torch, name)}
        self._streams: dict[Any, Any] = {}
        self._copying = threading.Lock()
        """Held during a copy, and by who begins a capture while it notes that."""
        self._captures = 0
        self._left_some = False
        self.version = 0
        """Goes up when what was left because of a capture may be asked for again."""
        graph = getattr(torch.cuda, "CUDAGraph", None)
        with failures.guard("wrapping CUDAGraph"):
            if graph is not None:
                self._wraps.wrap(graph, "capture_begin", self._around_begin)
                self._wraps.wrap(graph, "capture_end", self._around_end)

    def remove(self) -> None:
        """Leave torch as it was."""
        with self._failures.guard("unwrapping CUDAGraph"):
            self._wraps.unwrap_all()

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
                if self._captures:
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

    def _around_begin(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def capture_begin(*arguments: Any, **options: Any) -> Any:
            with self._copying:
                self._captures += 1
            try:
                return original(*arguments, **options)
            except BaseException:
                self._ended()
                raise

        return capture_begin

    def _around_end(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def capture_end(*arguments: Any, **options: Any) -> Any:
            try:
                return original(*arguments, **options)
            finally:
                self._ended()

        return capture_end

    def _ended(self) -> None:
        with self._copying:
            self._captures = max(0, self._captures - 1)
            if self._left_some and not self._captures:
                self._left_some = False
                self.version += 1
