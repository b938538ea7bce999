"""`import gpumodels.auto`: the sidecar in one line."""

import gpumodels

gpumodels.start()
