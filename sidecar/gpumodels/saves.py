"""What this process saves: values that are written to a file were there before it, so the file isn't where they came from.

Seen at saving, when the values may not have been looked at yet: a model that is built and saved at once looks, a second later,
as if it had been loaded from that file.
"""

from __future__ import annotations

import ctypes
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Final

from gpumodels.failures import Failures
from gpumodels.safetensors_values import DTYPES
from gpumodels.sampling import RawSample, TensorSampler
from gpumodels.wraps import Wraps
from gpumodels_shared.fingerprint import VALUES
from gpumodels_shared.floats import ITEM_BYTES

MAX_KEPT: Final = 100_000
"""Tensors whose values are remembered, by a hash: some 10 MB."""


class SavedValues:
    """When values were first saved. Written to in the host's threads."""

    def __init__(self) -> None:
        self._saved_ns: OrderedDict[int, int] = OrderedDict()

    def note(self, samples: Iterable[RawSample]) -> None:
        """These are about to be written to a file."""
        now = time.time_ns()
        for sample in samples:
            self._saved_ns.setdefault(hash(sample), now)
        while len(self._saved_ns) > MAX_KEPT:
            self._saved_ns.popitem(last=False)

    def first_ns(self, samples: Iterable[RawSample]) -> int | None:
        """When the first half of these, or more, had been saved; None where they weren't."""
        known = [self._saved_ns.get(hash(sample)) for sample in samples]
        saved = sorted(moment for moment in known if moment is not None)
        half = (len(known) + 1) // 2
        return saved[half - 1] if saved and len(saved) >= half else None


class Saves:
    """Listens to `torch.save` and to safetensors' way to a file."""

    def __init__(self, sampler: TensorSampler, saved: SavedValues, failures: Failures) -> None:
        self._sampler = sampler
        self._saved = saved
        self._failures = failures

    def wrap_torch(self, wraps: Wraps, torch: ModuleType, tensors_in: Callable[[Any], Iterable[tuple[str, Any]]]) -> None:
        """`torch.save`; `tensors_in` finds the tensors in what it is given."""

        def around(original: Callable[..., Any]) -> Callable[..., Any]:
            def save(*arguments: Any, **options: Any) -> Any:
                with self._failures.guard("noting what torch.save writes"):
                    found = tensors_in(arguments[0] if arguments else options.get("obj"))
                    samples = (self._sampler.take(tensor) for _, tensor in found)
                    self._saved.note(sample for sample in samples if sample is not None)
                return original(*arguments, **options)

            return save

        with self._failures.guard("wrapping torch.save"):
            wraps.wrap(torch, "save", around)

    def wrap_safetensors(self, wraps: Wraps, module: ModuleType) -> None:
        """`serialize_file`, which every `save_file` goes through, whoever imported that when."""

        def around(original: Callable[..., Any]) -> Callable[..., Any]:
            def serialize_file(*arguments: Any, **options: Any) -> Any:
                with self._failures.guard("noting what safetensors writes"):
                    given = arguments[0] if arguments else options.get("tensor_dict")
                    if isinstance(given, dict):
                        samples = (_sample_of(spec) for spec in given.values())
                        self._saved.note(sample for sample in samples if sample is not None)
                return original(*arguments, **options)

            return serialize_file

        with self._failures.guard("wrapping safetensors.torch.serialize_file"):
            wraps.wrap(module, "serialize_file", around)


def _sample_of(spec: Any) -> RawSample | None:
    """Of what safetensors is given for a tensor: an address since 0.7, bytes before."""
    if isinstance(spec, dict):
        dtype, shape, data = str(spec["dtype"]), tuple(spec["shape"]), spec["data"]
        length = ITEM_BYTES.get(dtype, 0) * VALUES
        return RawSample(dtype, shape, bytes(memoryview(data)[:length])) if 0 < length <= len(data) else None
    dtype, shape = DTYPES.get(spec.dtype, str(spec.dtype)), tuple(int(extent) for extent in spec.shape)
    length = ITEM_BYTES.get(dtype, 0) * VALUES
    if not 0 < length <= spec.data_len or not spec.data_ptr:
        return None
    return RawSample(dtype, shape, ctypes.string_at(spec.data_ptr, length))
