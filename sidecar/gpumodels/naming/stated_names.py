"""Reads what a model states of itself: in configs of transformers, diffusers, sentence-transformers and timm, and in attributes.

Only dictionaries are read: no code of the host's classes runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpumodels.naming.library_loads import is_marked_as_loaded
from gpumodels.support.instances import class_attribute, is_a, state_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import MODULES


@never_pickled
@dataclass(frozen=True, slots=True)
class StatedNames:
    """Names that a module states in its config and attributes."""

    config_name: str | None = None
    """What the config says that it was loaded from: `org/name` or a path."""
    possible_name: str | None = None
    """The repository that has weights for it, whether they were loaded or not."""
    architecture: str | None = None
    attributes: tuple[str, ...] = ()
    """The values of `model_name` and `name`, in this order."""
    is_loaded: bool = False
    """Whether the library of its class left a sign in it that it loaded weights into it."""


def stated_names(module: Any) -> StatedNames:
    """Read the names from the module's instance dictionary."""
    state = state_of(module)
    config = _config_of(state)
    loaded = module if config else _transformer_within(state)
    config = config or _config_of(state_of(loaded))
    timm = _mapping(state.get("pretrained_cfg"))
    attributes = (state.get("model_name"), state.get("name"))
    return StatedNames(
        config_name=_text(config, "_name_or_path"),
        possible_name=_text(timm, "hf_hub_id"),
        architecture=_text(config, "model_type") or _text(config, "_class_name") or _text(timm, "architecture"),
        attributes=tuple(text for text in attributes if type(text) is str),
        is_loaded=is_marked_as_loaded(loaded, state_of(loaded)),
    )


def _config_of(state: Mapping[str, Any]) -> Mapping[str, Any]:
    internal = state.get("_internal_dict")  # diffusers' ConfigMixin
    if is_a(internal, dict):
        return dict(dict.items(internal))
    config = state.get("config")
    if is_a(config, dict):
        return dict(dict.items(config))
    stated = state_of(config)
    found = {key: stated[key] for key in ("_name_or_path",) if key in stated}
    model_type = class_attribute(type(config), "model_type")
    if type(model_type) is str:
        found["model_type"] = model_type
    return found


def _transformer_within(state: Mapping[str, Any]) -> Any:
    """The model of transformers that the first module of a sentence-transformers model wraps; None for other models."""
    if "_model_config" not in state and "_model_card_vars" not in state:
        return None
    modules = state.get(MODULES)
    first = next(iter(dict.values(modules)), None) if is_a(modules, dict) else None
    inner = state_of(first).get(MODULES)
    for name in ("auto_model", "model"):
        wrapped = dict.get(inner, name) if is_a(inner, dict) else None
        if wrapped is not None:
            return wrapped
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return dict(dict.items(value)) if is_a(value, dict) else state_of(value)


def _text(config: Mapping[str, Any], key: str) -> str | None:
    stated = config.get(key)
    return stated if type(stated) is str and stated.strip() else None
