"""The table of file formats: model files and the JSON files that describe them, with the module that reads each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gpumodels_shared.shards import is_index

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
    "quantize_config.json": _CONFIG,
    "quant_config.json": _CONFIG,
    "hf_quant_config.json": _CONFIG,
    ".safetensors.index.json": "gpumodels_tui.headers.shard_index",
}
"""Modules by suffix or full file name. Each has `recognises(beginning, size_bytes)` and `read(path, beginning, size_bytes)`, and
`read_values(path, descriptor, beginning, size_bytes)` if values can be read. They are imported only in the worker."""

CONFIGS: Final = ("config.json", "adapter_config.json", "quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Files that describe the model files in the same directory. The last three are AutoGPTQ's, AutoAWQ's and ModelOpt's."""

SHARD_INDEX: Final = ".safetensors.index.json"
"""The key of all indexes, those of variants included (`….index.fp16.json`)."""


def suffix_of(path: str) -> str | None:
    """The key in READERS for a file of this name; None if it isn't a model file's name."""
    name = path.rpartition("/")[2]
    if name.endswith(".json"):
        return name if name in CONFIGS else SHARD_INDEX if is_index(name) else None
    stem, dot, ending = name.rpartition(".")
    suffix = f".{ending.lower()}"
    return suffix if stem and dot and suffix in READERS else None


def describes_others(path: str) -> bool:
    """Whether the file is not a model file itself, but describes those beside it."""
    suffix = suffix_of(path)
    return suffix in CONFIGS or suffix == SHARD_INDEX
