"""A device of two accelerators that exists in tests only: builds it, and gives torch a module for it, as `torch.cuda` is one.

Its name is `npu`, since safetensors takes only devices that it knows. Import this in a child process, where it stays for good.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

NAME: Final = "npu"
DEVICES: Final = 2
SEGMENT: Final = 2 * 1024**2
SOURCE: Final = Path(__file__).with_suffix(".cpp")
STATS: Final = (
    "allocated_bytes.all.current",
    "allocated_bytes.all.peak",
    "allocated_bytes.all.allocated",
    "allocated_bytes.all.freed",
    "reserved_bytes.all.current",
    "reserved_bytes.all.peak",
    "num_ooms",
    "num_alloc_retries",
)
COUNTERS: Final = (
    "copies to host",
    "bytes to host",
    "copies to device",
    "operations",
    "synchronisations",
    "streams",
    "driver allocations",
)


def unavailable() -> str | None:
    """Why the device can't be built here; None if it can."""
    if find_spec("torch") is None:
        return "needs torch"
    if sys.platform != "linux":
        return "needs Linux"
    return None if compiler() is not None else "needs a C++ compiler"


def compiler() -> str | None:
    """A C++ compiler, where there is one."""
    return next((found for name in ("c++", "g++", "clang++") if (found := shutil.which(name))), None)


def build() -> Path:
    """The compiled device for this torch; compiled once for each version of either, which takes a quarter of a minute.

    Raises:
        subprocess.CalledProcessError: the source doesn't compile.
    """
    import torch
    from torch.utils.cpp_extension import include_paths

    found = compiler()
    assert found is not None
    version = f"{torch.__version__} {torch.__file__} {found}".encode()
    key = hashlib.sha256(SOURCE.read_bytes() + version).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"gpumodels-simulated-device-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    library = directory / f"{key}.so"
    if not library.exists():
        fresh = library.with_suffix(f".{os.getpid()}")
        libraries = Path(torch.__file__).with_name("lib")
        includes = [f"-I{path}" for path in include_paths()]
        command = [
            found,
            "-std=c++20",
            "-O1",
            "-shared",
            "-fPIC",
            *includes,
            str(SOURCE),
            f"-L{libraries}",
            "-lc10",
            "-ltorch_cpu",
        ]
        subprocess.run([*command, "-o", str(fresh)], check=True, capture_output=True, text=True)
        fresh.replace(library)  # another process may have been as quick
    return library


class _Stream:
    """A stream on which everything has always been done."""

    def __init__(self, device: Any = None, **_: Any) -> None:
        self.device = device

    def synchronize(self) -> None:
        """Wait for nothing."""

    def wait_stream(self, stream: Any) -> None:
        """Wait for nothing."""

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        """Go back to the one stream that there is."""


class _Current:
    """A context in which a device is the current one."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._before = 0

    def __enter__(self) -> None:
        module = sys.modules[f"torch.{NAME}"]
        self._before = module.current_device()
        module.set_device(self._device)

    def __exit__(self, *_: object) -> None:
        sys.modules[f"torch.{NAME}"].set_device(self._before)


class SimulatedDevice(ModuleType):
    """`torch.npu`: what libraries ask of an accelerator's module."""

    Stream = _Stream
    device = _Current

    def __init__(self, library: Path) -> None:
        super().__init__(f"torch.{NAME}")
        self._library = ctypes.CDLL(str(library))
        self._library.simulated_counter.restype = ctypes.c_int64
        self._library.simulated_total.restype = ctypes.c_int64
        self._library.simulated_blocks.restype = ctypes.c_int64
        self._library.simulated_register()

    def is_available(self) -> bool:
        """Yes."""
        return True

    def is_initialized(self) -> bool:
        """Whether anything was ever allocated."""
        return bool(self._library.simulated_is_initialized())

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Nothing: the CPU's generator is used."""

    def device_count(self) -> int:
        """Two."""
        return DEVICES

    def current_device(self) -> int:
        """The index of the current one, in this thread."""
        return int(self._library.simulated_current_device())

    def set_device(self, device: Any) -> None:
        """Make it the current one, in this thread."""
        self._library.simulated_set_device(self._index(device))

    def synchronize(self, device: Any = None) -> None:
        """Wait for nothing."""

    def current_stream(self, device: Any = None) -> _Stream:
        """The one stream that there is."""
        return _Stream(device)

    def stream(self, stream: _Stream) -> _Stream:
        """A context in which this is the current stream."""
        return stream

    def get_amp_supported_dtype(self) -> list[Any]:
        """What autocast may cast to."""
        import torch

        return [torch.float16, torch.bfloat16]

    def empty_cache(self) -> None:
        """Give back the segments in which nothing lives."""
        for index in range(DEVICES):
            self._library.simulated_empty_cache(index)

    def memory_stats(self, device: Any = None) -> dict[str, int]:
        """What the allocator counts, under the names of torch's caching allocator.

        Raises:
            RuntimeError: there is no such device.
        """
        index = self._index(device)
        if not 0 <= index < DEVICES:
            raise RuntimeError("invalid device ordinal")
        values = (ctypes.c_int64 * len(STATS))()
        self._library.simulated_stats(index, values)
        return dict(zip(STATS, values, strict=True))

    def use_pool(self, pool: int) -> None:
        """Allocate from a private pool from now on, as while a CUDA graph is captured; 0 is the one for all."""
        self._library.simulated_use_pool(ctypes.c_int64(pool))

    def memory_snapshot(self, mempool_id: Any = None, include_traces: bool = True) -> list[dict[str, Any]]:
        """The allocator's segments with their blocks, in the form of `torch.cuda.memory_snapshot`. Nothing records stacks."""
        return [segment for index in range(DEVICES) for segment in self._segments(index)]

    def _segments(self, index: int) -> list[dict[str, Any]]:
        most = int(self._library.simulated_blocks(index, None, ctypes.c_int64(0)))
        numbers = (ctypes.c_int64 * (6 * max(most, 1)))()
        count = int(self._library.simulated_blocks(index, numbers, ctypes.c_int64(most)))
        rows = sorted(zip(*[iter(numbers[: 6 * min(count, most)])] * 6, strict=True))
        segments: dict[int, dict[str, Any]] = {}
        for address, size, pool, block, length, is_live in rows:
            segment = segments.setdefault(
                address,
                {
                    "device": index,
                    "address": address,
                    "total_size": size,
                    "segment_pool_id": (0, pool),
                    "segment_type": "large" if size > SEGMENT else "small",
                    "is_expandable": False,
                    "blocks": [],
                },
            )
            state = "active_allocated" if is_live else "inactive"
            segment["blocks"].append({"address": block, "size": length, "state": state})
        for segment in segments.values():
            used = sum(block["size"] for block in segment["blocks"])
            if used < segment["total_size"]:
                rest = {"address": segment["address"] + used, "size": segment["total_size"] - used, "state": "inactive"}
                segment["blocks"].append(rest)
        return list(segments.values())

    def memory_allocated(self, device: Any = None) -> int:
        """Bytes in live tensors."""
        return self.memory_stats(device)["allocated_bytes.all.current"]

    def memory_reserved(self, device: Any = None) -> int:
        """Bytes in segments, the cache included."""
        return self.memory_stats(device)["reserved_bytes.all.current"]

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Free and total bytes."""
        total = int(self._library.simulated_total(self._index(device)))
        return total - self.memory_reserved(device), total

    def set_total_bytes(self, size_bytes: int, device: Any = None) -> None:
        """How much memory a device has from now on."""
        self._library.simulated_set_total(self._index(device), ctypes.c_int64(size_bytes))

    def counts(self) -> dict[str, int]:
        """How often which work was done on both devices."""
        return {name: int(self._library.simulated_counter(number)) for number, name in enumerate(COUNTERS)}

    def _index(self, device: Any) -> int:
        import torch

        if isinstance(device, int):
            return device
        index = None if device is None else torch.device(device).index
        return self.current_device() if index is None else int(index)


def attach() -> SimulatedDevice:
    """Give this process's torch the device."""
    import torch

    backend: Any = torch.utils
    backend.rename_privateuse1_backend(NAME)
    device = SimulatedDevice(build())
    torch._register_device_module(NAME, device)  # type: ignore[no-untyped-call]
    backend.generate_methods_for_privateuse1_backend(for_tensor=True, for_module=True, for_storage=True)
    return device
