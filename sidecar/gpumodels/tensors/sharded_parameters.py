"""Finds what FSDP2 keeps of a module's parameters besides the registered ones: their shards, and the memory they are gathered in.

`fully_shard` exchanges a module's parameters as it gathers and frees them: only the shards are registered, or only the gathered
parameters, while both are in memory. An `FSDPParam` for each parameter holds all of them. Nothing of it is in the module but a
hook, a lambda that `FSDPParam.__init__` registers and that refers to it. So in torch 2.4 to 2.14.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any, Final

from gpumodels.support.instances import mro_of, name_of, package_of, state_of
from gpumodels.support.torch_private import LOAD_HOOKS

TENSORS: Final = ("_sharded_param_data", "_sharded_post_forward_param_data", "all_gather_outputs", "_unsharded_inner_tensors")
"""Attributes of an `FSDPParam` with tensors that hold memory, or lists of these. Shards are padded to the size of the first."""

PARAMETERS_WITH_GRADIENTS: Final = ("sharded_param", "_unsharded_param")
ACCUMULATED_GRADIENT: Final = "unsharded_accumulated_grad"


def tensors_of_shards(state: Mapping[str, Any], tensor_type: type) -> list[tuple[str, Any]]:
    """The names of the module's parameters, each with a tensor that holds its memory, gathered or not.

    Args:
        state: the module's instance dictionary.
        tensor_type: `torch.Tensor`.
    """
    found: list[tuple[str, Any]] = []
    for parameter in _sharded_parameters(state):
        name = state_of(parameter.get("_module_info")).get("param_name")
        for attribute in TENSORS:
            value = parameter.get(attribute)
            tensors = [tensor for tensor in (value if type(value) is list else (value,)) if tensor_type in mro_of(type(tensor))]
            found += [(name if type(name) is str else attribute, tensor) for tensor in tensors]
    return found


def parameters_beside(state: Mapping[str, Any]) -> list[Any]:
    """The sharded and the gathered parameters of the module, only one of which is registered at a time, for their gradients."""
    return [parameter.get(name) for parameter in _sharded_parameters(state) for name in PARAMETERS_WITH_GRADIENTS]


def accumulated_gradients(state: Mapping[str, Any]) -> list[Any]:
    """The gradients that are added up in another dtype before they are reduced."""
    return [gradient for parameter in _sharded_parameters(state) if (gradient := parameter.get(ACCUMULATED_GRADIENT)) is not None]


def _sharded_parameters(state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The instance dictionaries of the `FSDPParam`s to which the module's hooks refer."""
    hooks = state.get(LOAD_HOOKS)
    if type(hooks) is not OrderedDict:
        return
    for hook in [*hooks.values()]:
        for cell in (hook.__closure__ or ()) if type(hook) is FunctionType else ():
            try:
                kept = cell.cell_contents
            except ValueError:  # an empty cell
                continue
            if name_of(type(kept)) == "FSDPParam" and package_of(type(kept)) == "torch":
                yield state_of(kept)
