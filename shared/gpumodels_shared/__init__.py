"""What the sidecar and the viewer share: the schema, its encoding, the mapped file and its directories, units and safe text.

For other programs: `from gpumodels_shared import processes`, described in docs/python.md. It is imported when it is asked for,
as the processes in which the sidecar runs have no use for it.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from gpumodels_shared.live_processes import Process, ProcessDevice, ProcessModel, processes

__all__ = ["Process", "ProcessDevice", "ProcessModel", "processes"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gpumodels_shared import live_processes

    return getattr(live_processes, name)
