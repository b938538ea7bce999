"""`gpumodels` on Windows: logs that the platform isn't supported, and does nothing else."""

from __future__ import annotations

import logging
import os


def start(
    *,
    interval: float | None = None,
    directory: str | os.PathLike[str] | None = None,
    label: str | None = None,
    sample_accelerator: bool | None = None,
) -> None:
    """Log that this platform is not supported, and return."""
    logging.getLogger("gpumodels").warning("Windows is not supported: the sidecar stays off")


def stop() -> None:
    """Do nothing, as no sidecar runs on this platform."""
