"""Servers that load a model, call `gc.freeze()` and fork: each worker that starts the sidecar has the model's row."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.decoding import decode
from gpumodels_shared.places import snapshot_files
from gpumodels_shared.reader import SnapshotReader
from gpumodels_shared.schema import Model
from processes import running_python, wait_until

pytestmark = pytest.mark.slow

_SERVER: Final = """
import functools, gc, os, sys, types
import torch
from torch import nn

class Reranker(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(128, 128) for _ in range(4)])

class Service:
    def __init__(self, model):
        self.routes = {"/rerank": [types.SimpleNamespace(endpoint=functools.partial(self.rank, model))]}

    def rank(self, model, text):
        return model(text)

HEAP = [[{"number": [number]} for number in range(1000)] for _ in range(100)]
WORKERS = 2

def master(app):
    ready, done = os.pipe()  # closed by the master's end
    gc.freeze()
    for _ in range(WORKERS):
        if os.fork() == 0:
            import gpumodels
            gpumodels.start()
            os.close(done)
            os.read(ready, 1)
            os._exit(0)
    sys.stdin.readline()
    del app
"""

HOLDERS: Final = {
    "a global variable": "model = Reranker()\nmaster(None)",
    "an application object": "app = Service(Reranker())\nmaster(None)",
    "a local variable of a running function": "master(Reranker())",
    "a closure": "def make(model):\n    return lambda: model\nhandler = make(Reranker())\nmaster(None)",
    "a class": "class Registry:\n    models = [Reranker()]\nmaster(None)",
    "a cached function": "@functools.lru_cache\ndef get():\n    return Reranker()\nget()\nmaster(None)",
    "a running generator": (
        "def stream():\n    model = Reranker()\n    yield\n    yield model\nrunning = stream()\nnext(running)\nmaster(None)"
    ),
}


def models_of_processes(directory: Path) -> list[tuple[Model, ...]]:
    found: list[tuple[Model, ...]] = []
    for name in snapshot_files(directory):
        reader = SnapshotReader(directory / name, os.geteuid())
        try:
            payload = reader.latest()
            if payload is not None:
                found.append(decode(payload.data).models)
        finally:
            reader.close()
    return found


@pytest.mark.parametrize("holder", HOLDERS)
def test_each_worker_of_a_server_that_froze_its_model_has_one_row(holder: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    environment = {"GPUMODELS_DIR": str(tmp_path), "GPUMODELS_INTERVAL": "0.25"}
    with running_python(_SERVER + HOLDERS[holder], environment=environment) as server:

        def rows() -> list[list[tuple[str, int]]]:
            return [[(model.class_name, model.resident_bytes) for model in models] for models in models_of_processes(tmp_path)]

        wait_until(lambda: rows() == [[("Reranker", 4 * (128 + 1) * 128 * 4)]] * 2)
        assert server.stdin is not None
        server.stdin.close()
