"""What `gpumodels` is on Windows: it says that it isn't supported, and leaves the host alone."""

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
    """Nothing runs, nothing is to be stopped."""
