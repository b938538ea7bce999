"""Reads the tables of a module, which are dicts, or objects of TorchScript with fewer methods, without running foreign code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gpumodels.support.instances import is_a, state_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import BUFFERS, MODULES, PARAMETERS, TRACED


@never_pickled
class ModuleTables(NamedTuple):
    """What a module holds by name; read these with `entries_of` and `entry`."""

    modules: Any
    parameters: Any
    buffers: Any


NO_TABLES: Final = ModuleTables({}, {}, {})


def tables_of(state: Mapping[str, Any]) -> ModuleTables:
    """The tables of a module with this instance dictionary; empty if it isn't initialised yet.

    A traced module has none itself: all that it holds is in a script module, whose tables these are then.
    """
    if PARAMETERS not in state and TRACED in state:
        state = state_of(state[TRACED])
    try:
        return ModuleTables(state[MODULES], state[PARAMETERS], state[BUFFERS])
    except KeyError:
        return NO_TABLES


def entries_of(table: Any) -> list[tuple[str, Any]]:
    """Names and values in one of a module's tables, those that are None left out.

    A dict is read as such, whatever its class makes of it: DeepSpeed's gathers a parameter as it is read.
    """
    entries = [*(dict.items(table) if is_a(table, dict) else table.items())]
    return [(name, value) for name, value in entries if value is not None] if entries else entries


def entry(table: Any, name: str) -> Any:
    """The value of this name in one of a module's tables; None if there is none."""
    if is_a(table, dict):
        return dict.get(table, name)
    try:
        return table[name]
    except (KeyError, AttributeError, RuntimeError):  # TorchScript's tables raise whichever they like
        return None
