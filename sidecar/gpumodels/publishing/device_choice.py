"""Which devices the process chose by its environment, as CUDA read it: once, when the process first used a device.

Many programs set CUDA_VISIBLE_DEVICES themselves after they began, and some change it when it is too late.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Final

from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.schema import ProcessInfo
from gpumodels_shared.visible_devices import UNKNOWN_CHOICE

DRIVER_FILES: Final = "/dev/nvidia"
"""How the names of the driver's files begin, which CUDA opens when it begins."""


@never_pickled
class DeviceChoice:
    """Follows what the environment says until a device is used."""

    def __init__(self, environment: Mapping[str, str] = os.environ, is_driver_open: Callable[[], bool] | None = None) -> None:
        self._environment = environment
        self._is_driver_open = is_driver_open or _has_driver_open
        self._is_read = False
        """Whether CUDA has read it."""

    def applied_to(self, info: ProcessInfo) -> ProcessInfo:
        """The process with what it chose by now: `UNKNOWN_CHOICE` where it chose after CUDA may have read the choice before."""
        if self._is_read:
            return info
        visible, order = (self._environment.get(name) for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"))
        is_initialized = _is_cuda_initialized()
        if (visible, order) != (info.visible_devices, info.device_order):
            is_certain = not is_initialized and not self._is_driver_open()
            info = replace(info, visible_devices=visible if is_certain else UNKNOWN_CHOICE, device_order=order)
            self._is_read = not is_certain
        self._is_read |= is_initialized
        return info


def _is_cuda_initialized() -> bool:
    """Whether torch has initialised CUDA, by its own flag: nothing is called."""
    cuda = sys.modules.get("torch.cuda")
    return type(cuda) is ModuleType and cuda.__dict__.get("_initialized") is True


def _has_driver_open() -> bool:
    """Whether this process has opened NVIDIA's driver, as CUDA and NVML do."""
    with suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}").startswith(DRIVER_FILES):  # noqa: PTH115
                    return True
    return False
