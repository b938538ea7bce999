"""How programs lay out the models that they keep: where in a path the model's name stands, and how it is spelled there."""

from __future__ import annotations

import re
from typing import Final

from gpumodels_shared.records import Record

_FRAMEWORKS: Final = (
    r"(?i:pytorch|transformers|keras|jax|flax|pax|maxtext|tensorflow[12]|tflite|tfjs|ggml|gguf|gemmacpp|onnx|triton|tensorrtllm)"
)


class StoreLayout(Record):
    """One program's layout."""

    program: str
    pattern: str
    """Matches a path from the store's own folder to the model's; the group is what the model is called."""
    is_certain: bool = True
    """False where people may have folders like these, too: then each part must be able to be a name, or a framework's."""


LAYOUTS: Final = (
    StoreLayout("Hugging Face, NVIDIA NIM", r"(?:^|/)models--([^/]+)/(?:snapshots|blobs)/"),
    StoreLayout("ModelScope since 1.39, data sets", r"(?:^|/)(?:datasets--|spaces--)?([^/]+--[^/]+)/snapshots/"),
    StoreLayout("ModelScope", r"/hub/models/([^/._][^/]*/[^/]+)/", is_certain=False),
    StoreLayout("ModelScope before 1.22", r"/modelscope/(?:hub/)?(?:models/)?([^/._][^/]*/[^/]+)/", is_certain=False),
    StoreLayout("Kaggle", r"/(?:kagglehub/models|kaggle/input(?:/models)?)/((?:[^/]+/){2,3}[^/]+)/\d+/"),
    StoreLayout("Kaggle, elsewhere", rf"/models/([^/]+/[^/]+/{_FRAMEWORKS}/[^/]+)/\d+/"),
    StoreLayout("Kaggle, copied", rf"(?:^|/)(?<!/home/)([^/]+/{_FRAMEWORKS}/[^/]+)/\d+/", is_certain=False),
    StoreLayout("BentoML", r"/bentoml/models/([^/]+)/[^/]+/"),
    StoreLayout("MLflow", r"/(?:mlruns|mlartifacts)/(?:[^/]+/)+artifacts/([^/]+)/data/", is_certain=False),
)
"""Programs that keep files below folders which aren't listed here need no line: theirs are named as all folders are."""

_HUB: Final = LAYOUTS[0].pattern


def hub_repository(path: str) -> str | None:
    """`org/name` from a path in a Hugging Face cache; None for other paths."""
    found = re.search(_HUB, path)
    return found[1].replace("--", "/") if found and "--" in found[1] else None


def named_in_store(path: str) -> tuple[str, bool] | None:
    """What the model is called in a program's store, as people spell it, and whether it is certain to be a name; else None."""
    for layout in LAYOUTS:
        found = re.search(layout.pattern, path)
        if found is not None:
            return found[1].replace("--", "/").replace("___", "."), layout.is_certain
    return None


def is_framework(part: str) -> bool:
    """Whether a store of models for several frameworks has a folder of this name in each."""
    return re.fullmatch(_FRAMEWORKS, part) is not None


def spelled(folder: str) -> str:
    """A folder's name as people spell it: ModelScope writes `___` for a dot, archives of a branch end in its name."""
    return re.sub(r"(?<=[A-Za-z0-9])___(?=\d)", ".", re.sub(r"(?i)(?<=\w)[-_](?:main|master)$", "", folder))
