"""Which files are model files, or tell of those beside them: one table, each with the module that reads its header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_SAFETENSORS: Final = "gpumodels_tui.headers.safetensors_header"
_PICKLED: Final = "gpumodels_tui.headers.pickled_header"
_CONFIG: Final = "gpumodels_tui.headers.config_header"

READERS: Final[Mapping[str, str]] = {
    ".safetensors": _SAFETENSORS,
    ".sft": _SAFETENSORS,
    ".gguf": "gpumodels_tui.headers.gguf_header",
    ".pt": _PICKLED,
    ".pth": _PICKLED,
    ".ckpt": _PICKLED,
    "config.json": _CONFIG,
    "adapter_config.json": _CONFIG,
    ".safetensors.index.json": "gpumodels_tui.headers.shard_index",
}
"""By suffix or whole name, modules with `recognises(beginning, size_bytes)` and `read(path, beginning, size_bytes)`, and with
`read_values(path, descriptor, beginning, size_bytes)` where values can be read; loaded in the worker alone."""

CONFIGS: Final = ("config.json", "adapter_config.json")
"""What a directory says of the model files in it."""

SHARD_INDEX: Final = ".safetensors.index.json"


def suffix_of(path: str) -> str | None:
    """The entry of READERS under which this name would be read; None where it isn't a model file's name."""
    name = path.rpartition("/")[2]
    if name.endswith(".json"):
        return name if name in CONFIGS else SHARD_INDEX if name.endswith(SHARD_INDEX) else None
    stem, dot, ending = name.rpartition(".")
    suffix = f".{ending.lower()}"
    return suffix if stem and dot and suffix in READERS else None


def tells_of_others(path: str) -> bool:
    """Whether it is no model file, but says something about those beside it."""
    suffix = suffix_of(path)
    return suffix in CONFIGS or suffix == SHARD_INDEX
