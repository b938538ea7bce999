"""Weights that ComfyUI's patchers keep while a model has others in their place: those that LoRAs and merges were added to.

A model refers to its patcher only while it samples, but the patcher keeps what it replaced until the model is unloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gpumodels.support.instances import is_a, mro_of, name_of, state_of
from gpumodels.support.weak_table import KeyedRef

PATCHER: Final = "current_patcher"
"""The attribute in which a model has its patcher while it samples."""
TABLES: Final = ("backup", "hook_backup")
"""The attributes of patchers that keep weights, by key."""
_DYNAMIC: Final = "ModelPatcherDynamic"
"""With dynamic VRAM, the backup is of what is on the device: small weights, whose originals are mapped from their file."""


def keeps_weights(patcher: Any) -> bool:
    """Whether the patcher keeps weights that it replaced."""
    return bool(_tables_in(patcher)) and not any(name_of(base) == _DYNAMIC for base in mro_of(type(patcher)))


def with_replaced_weights(state: dict[str, Any], module: Any, ref: KeyedRef) -> dict[str, Any]:
    """The module's instance dictionary, with what this patcher keeps in place of the patcher itself.

    Args:
        state: the instance dictionary.
        module: the module.
        ref: to the patcher.
    """
    patcher = ref()
    if patcher is None or state_of(patcher).get("model") is not module:
        return state
    return {**state, PATCHER: _tables_in(patcher)}


def _tables_in(patcher: Any) -> list[Mapping[Any, Any]]:
    found = [state_of(patcher).get(name) for name in TABLES]
    return [table for table in found if is_a(table, dict) and dict.__len__(table)]
