"""Processes in which a large library makes or loads a model, and the models that the viewer then has a row for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.schema import Model
from hosts import Host, a_host

REQUIREMENTS: Final = Path(__file__).parent / "libraries" / "requirements.txt"

_SETUP: Final = """
import gc, os, warnings
warnings.simplefilter("ignore")
import gpumodels
gpumodels.start()
import torch
from torch import nn

# torchvision is built for CUDA. Beside a torch for the CPU its operators don't load, and then no library that imports it does.
_operators = torch.library.Library("torchvision", "FRAGMENT")
if torch.version.cuda is None and not hasattr(torch.ops.torchvision, "nms"):
    for _name in ("nms", "qnms"):
        _operators.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

def distinct(*tensors):
    "The bytes of these tensors, each storage once."
    return sum({tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}.values())

def held_by(model, *others):
    return distinct(*model.parameters(), *model.buffers(), *others)

def elements_of(model):
    return sum(parameter.numel() for parameter in model.parameters())

def long_ago(folder="."):
    "As if none of the files below had been written just now."
    for path, _, names in os.walk(folder):
        for name in names:
            os.utime(os.path.join(path, name), (1e9, 1e9))
"""

ENVIRONMENT: Final = {
    "PYTHONWARNINGS": "ignore",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "YOLO_OFFLINE": "true",
}


def needs(*distributions: str) -> pytest.MarkDecorator:
    """Skip where one of these isn't installed. They aren't imported in the tests' own process."""
    missing = [name for name in distributions if _version(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: make test-libraries")


def pinned_versions() -> dict[str, str]:
    """By distribution, the version that the tests were written for."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return {name: number for name, is_pinned, number in (line.partition("==") for line in lines) if is_pinned}


def installed_versions() -> dict[str, str | None]:
    """The same as they are installed here."""
    return {name: _version(name) for name in pinned_versions()}


@contextlib.contextmanager
def a_library_host(directory: Path) -> Iterator[Host]:
    """A child with the sidecar, whose current folder is a new one. It ignores warnings, as libraries have their own."""
    files = directory / "files"
    files.mkdir()
    with a_host(directory / "gpm", _SETUP, {**ENVIRONMENT, "YOLO_CONFIG_DIR": str(directory)}) as host:
        host.tell(f"os.chdir({str(files)!r})")
        yield host


def rows_of(host: Host, count: int, are_right: Callable[[tuple[Model, ...]], bool] = lambda _: True) -> tuple[Model, ...]:
    """Its models, largest first, once there are so many."""
    found = host.models_when(lambda models: len(models) == count and are_right(models))
    return tuple(sorted(found, key=lambda model: (-model.resident_bytes, model.name)))


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
