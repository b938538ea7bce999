"""Where the hook is, and the folders with the packages that it loads in Pythons which haven't installed them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgpack

import gpumodels_shared

HOOK: Final = Path(__file__).resolve().parent / "hook" / "sitecustomize.py"
"""Its folder holds nothing else, as Python searches it, and is a part of the installed package: it is as safe as that, no cleaner
of temporary files removes it while a process runs for weeks, and there is nothing to create or to remove."""


def package_folders() -> list[str]:
    """The folders that hold msgpack, gpumodels_shared and gpumodels, in the hook's order.

    msgpack finds its compiled part only in the Python that it was made for; any other one gets its pure fallback from there.
    """
    return [str(Path(file).resolve().parents[1]) for file in (str(msgpack.__file__), gpumodels_shared.__file__, _OWN)]


_OWN: Final = str(Path(__file__).resolve().parents[1] / "__init__.py")


def with_hook(environment: dict[str, str]) -> dict[str, str]:
    """This environment, in which every Python runs the hook.

    Raises:
        ValueError: PYTHONPATH can't name the hook's folder.
    """
    folder = str(HOOK.parent)
    if os.pathsep in folder:
        raise ValueError(f"PYTHONPATH can't name {folder}, where gpumodels is installed")
    others = environment.get("PYTHONPATH", "")
    if folder not in others.split(os.pathsep):
        others = f"{folder}{os.pathsep}{others}" if others else folder
    return {**environment, "PYTHONPATH": others, "_GPUMODELS_PACKAGES": os.pathsep.join(package_folders())}
