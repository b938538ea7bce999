from __future__ import annotations

import copy
import enum
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import gpumodels
from modules import Backbone, attached


def classes_of_the_sidecar() -> Iterator[type]:
    """All classes that the package defines, except exceptions, protocols, the demo's models and what isn't in hosts."""
    for found in pkgutil.walk_packages(gpumodels.__path__, "gpumodels."):
        if ".demo" in found.name or ".comfyui_pack" in found.name or found.name.rpartition(".")[2] in ("__main__", "auto"):
            continue
        module = importlib.import_module(found.name)
        for _, kind in inspect.getmembers(module, inspect.isclass):
            is_plain = issubclass(kind, (BaseException, enum.Enum)) or getattr(kind, "_is_protocol", False)
            if kind.__module__ == found.name and not is_plain:
                yield kind


@pytest.mark.parametrize("kind", list(classes_of_the_sidecar()), ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_no_class_of_the_sidecars_can_be_pickled_or_copied(kind: type) -> None:
    refusing: Any = kind.__reduce_ex__
    with pytest.raises(TypeError, match="never copied"):
        refusing(kind, 4)


def test_the_error_names_the_object_that_was_to_be_pickled() -> None:
    with attached() as sidecar:
        model = Backbone()
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r"gpumodels\.observing\.module_registry\.ModuleRegistry belongs to the process"):
                attempt(sidecar.registry)
        assert len(sidecar.registry) == len(list(model.modules()))
