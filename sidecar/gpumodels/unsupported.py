"""`gpumodels` on Windows: logs that the platform isn't supported, and does nothing else."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any

from gpumodels.support.never_pickled import never_pickled


def start(
    *,
    interval: float | None = None,
    directory: str | os.PathLike[str] | None = None,
    label: str | None = None,
    sample_accelerator: bool | None = None,
    track_use: bool | None = None,
) -> None:
    """Log that this platform is not supported, and return."""
    logging.getLogger("gpumodels").warning("Windows is not supported: the sidecar stays off")


def stop() -> None:
    """Do nothing, as no sidecar runs on this platform."""


def label(module: Any, name: str | None, file: Any = None) -> None:
    """Do nothing."""


def stage(name: str | Callable[..., Any]) -> Any:
    """A context, and a decorator, that does nothing; the function itself where it is given one."""
    return _Stage() if isinstance(name, str) else name


@never_pickled
class _Stage:
    def __enter__(self) -> _Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Do nothing."""

    async def __aenter__(self) -> _Stage:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Do nothing."""

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function
