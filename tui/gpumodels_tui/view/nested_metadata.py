"""Finds the values that trainers write inside others: in JSON texts, and once for each component of a pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

JSON_KEYS: Final = ("lora_adapter_metadata", "training_info", "ot_config", "lora_config", "peft_config")
"""Keys whose values are JSON objects: of diffusers, ai-toolkit, OneTrainer, and others that keep PEFT's config."""

COMPONENT: Final = (
    r"(?:base_model\.model\.)?"
    r"((?:transformer|unet|text_encoder|image_encoder|denoiser|dit|prior|decoder|vae|controlnet|connectors|model)(?:_\w+)?)\.(\w+)"
)
"""`transformer.r`: a component of a pipeline as diffusers and SimpleTuner call it, and what is said of the adapter in it."""

MAX_CHARACTERS: Final = 128 * 1024
_REMEMBERED: Final = 64


def with_nested(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """The metadata, with what is written inside them under keys of its own; the same object if there is nothing.

    `training_info.step` is `step` in the JSON of `training_info`, `lora_adapter_metadata.*.r` is `transformer.r` in that of
    `lora_adapter_metadata`, and `*.r` the key `transformer.r` itself. Where the components of a pipeline don't say the same, they
    are named: `transformer 16, text_encoder 8`.
    """
    added: dict[str, str] = dict(_of_components("", metadata))
    for key in JSON_KEYS:
        text = metadata.get(key)
        if text is not None and text.startswith("{"):
            added.update(_in_json(key, text))
    return {**added, **metadata} if added else metadata


@lru_cache(maxsize=_REMEMBERED)
def _in_json(key: str, text: str) -> Mapping[str, str]:
    if len(text) > MAX_CHARACTERS:
        return {}
    import msgspec  # large, and rarely needed

    try:
        found: object = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    plain = {name: said for name, value in found.items() if (said := _as_text(value)) is not None}
    return {**{f"{key}.{name}": said for name, said in plain.items()}, **_of_components(f"{key}.", plain)}


def _of_components(prefix: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
    by_name: dict[str, dict[str, str]] = {}
    for key, value in metadata.items():
        if "." in key and (found := re.fullmatch(COMPONENT, key)) is not None:
            by_name.setdefault(f"{prefix}*.{found[2]}", {})[found[1]] = value
    return {name: _together(values) for name, values in by_name.items()}


def _together(values: Mapping[str, str]) -> str:
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return ", ".join(f"{component} {value}" for component, value in values.items())


def _as_text(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, (str, int, float)) else None
