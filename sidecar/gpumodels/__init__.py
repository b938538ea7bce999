"""gpumodels: says which models are in which GPU's memory. This side runs inside the PyTorch process.

    import gpumodels
    gpumodels.start()

From then on `gpumodels-tui`, in any other terminal of this machine, shows this process's models by name. Nothing here
imports torch, initialises CUDA, raises into the host or prints; messages go to `logging.getLogger("gpumodels")`.
"""

import sys

from gpumodels.version import __version__

if sys.platform == "win32":
    from gpumodels.unsupported import label, stage, start, stop
else:
    from gpumodels.hooks.program_stages import stage
    from gpumodels.provenance.labels import label
    from gpumodels.sidecar import start, stop

__all__ = ["__version__", "label", "stage", "start", "stop"]
