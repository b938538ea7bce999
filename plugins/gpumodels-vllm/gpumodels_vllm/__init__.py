"""vLLM's plugin: vLLM calls `start` in each of its processes, in some of them more than once."""

import logging


def start() -> None:
    """Start the sidecar of gpumodels, unless it runs already. Never raises: vLLM would end with it."""
    try:
        import gpumodels  # vLLM's process, before its models

        gpumodels.start()
    except Exception as error:  # noqa: BLE001
        logging.getLogger("gpumodels").warning("the sidecar doesn't start in vLLM: %s: %s", type(error).__name__, error)
