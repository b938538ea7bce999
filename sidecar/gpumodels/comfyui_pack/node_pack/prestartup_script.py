"""Starts the sidecar with ComfyUI, which runs this before it imports torch and loads models.

Whatever goes wrong is one line in ComfyUI's log, and ComfyUI starts as it would without. Nothing is installed here.
"""

import logging
import sys

# Not `logging.warning`, which would set up logging where ComfyUI has not done so yet.
_LOG = logging.getLogger("gpumodels.comfyui")
_PIP = f"{sys.executable} -m pip install"


def start() -> None:
    """Start the sidecar, or say in one line why it can't be."""
    try:
        import gpumodels

        # A folder of this name may be found in its place, and has no `start`.
        begin = getattr(gpumodels, "start", None)
        if begin is None:
            _say(
                f"gpumodels {getattr(gpumodels, '__version__', '')} is too old for its node pack".replace("  ", " "), "--upgrade"
            )
        else:
            begin()
    except ModuleNotFoundError as error:
        missing = "is not installed in" if error.name == "gpumodels" else f"lacks {error.name} in"
        _say(f"gpumodels {missing} ComfyUI's Python", "--upgrade")
    except Exception as error:  # noqa: BLE001 - whatever is broken there, ComfyUI starts
        reason = " ".join(str(error).split())
        _say(f"gpumodels is broken in ComfyUI's Python: {type(error).__name__}: {reason}", "--force-reinstall")


def _say(what: str, option: str) -> None:
    _LOG.warning("%s, so gpumodels-tui does not show this ComfyUI. Next: %s %s gpumodels", what, _PIP, option)


start()
