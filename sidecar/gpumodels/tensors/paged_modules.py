"""What ComfyUI's dynamic VRAM notes on modules: where a module's weights lie in the pages of a device, and in pinned memory.

Each model has a range of virtual addresses on its device, a VBAR, of which single pages are in memory. Its modules' parameters
stay in host memory, or mapped from their file. A module's `_v` says which part of the range is for its weight and bias, and its
`_v_weight` and `_v_bias` are views of that part, which outlive the pages. None of these attributes is memory of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any, Final, NamedTuple

from gpumodels.support.instances import class_attribute, is_a, state_of
from gpumodels.support.never_pickled import never_pickled

VBARS: Final = "dynamic_vbars"
"""The attribute in which a model keeps its VBARs by device."""
PINS: Final = "dynamic_pins"
"""The attribute in which a model keeps its buffers of pinned memory by device."""
ALLOCATION: Final = "_v"
PAGED_TENSORS: Final = ("weight", "bias")
"""The parameters of a module that lie in its part of a VBAR, in this order."""
NOTED_BESIDE: Final = frozenset(
    {ALLOCATION, "_v_block", "_v_weight", "_v_bias", "_v_signature", "_prefetch", VBARS, PINS}
    | {"_pin", "_pin_hostbuf", "_pins", "_pin_state"}
)
"""Attributes of modules that hold views, buffers that are reused, or copies: nothing beyond the parameters."""
_SIGNS: Final = ("_v_signature", "_pin_state")
PINNED_WEIGHTS: Final = ("weights", "weights-loaded")
PINNED_PATCHES: Final = ("patches", "patches-loaded")
"""The kinds of copies in pinned memory: of a module's weights, and of LoRAs' tensors for one of them."""
PATCHES_SUFFIX: Final = "_lowvram_function"
"""What follows a parameter's name in the attribute that holds what is patched onto it whenever it is copied to the device."""
FILE_SLICE: Final = "_comfy_tensor_file_slice"
"""The attribute of a storage that ComfyUI's own loader mapped from a file."""
LARGEST_BYTES: Final = 1 << 60


@never_pickled
class Allocation(NamedTuple):
    """The part of a VBAR that is for one module."""

    vbar: int
    """The `id()` of the VBAR."""
    address: int
    size_bytes: int


def allocation_in(state: Mapping[str, Any]) -> Allocation | None:
    """The module's part of a VBAR; None if it has none.

    Args:
        state: the module's instance dictionary.
    """
    found: Any = state.get(ALLOCATION)
    if not is_allocation(found):
        return None
    vbar, address, size = found
    return Allocation(id(vbar), address, size) if 0 < size < LARGEST_BYTES else None


def is_allocation(value: Any) -> bool:
    """Whether the value is a part of a VBAR: that, an address and a size."""
    if type(value) is not tuple or len(value) != 3:
        return False
    vbar, address, size = value
    return type(address) is int and type(size) is int and is_vbar(vbar)


def is_vbar(value: Any) -> bool:
    """Whether this object's class has the methods of a VBAR by which it says what is in memory."""
    kind = type(value)
    return any(type(class_attribute(kind, name)) is FunctionType for name in ("loaded_size", "get_residency"))


def notes_paging(state: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether an attribute whose name is in NOTED_BESIDE is dynamic VRAM's; other libraries may use such names for weights.

    Args:
        state: the module's instance dictionary.
        name: the attribute's name.
        value: its value.
    """
    if name in (VBARS, PINS):
        return is_a(value, dict)
    if is_allocation(value) or is_allocation(state.get(ALLOCATION)):
        return True
    return is_a(state.get(VBARS), dict) or any(sign in state for sign in _SIGNS)


def pin_in(state: Mapping[str, Any], kinds: Sequence[str] = PINNED_WEIGHTS) -> bool | None:
    """Whether the module's copy of its weights in host memory is page-locked now; None if it has no such copy.

    Args:
        state: the module's instance dictionary, or that of an object with patches.
        kinds: which copies count.
    """
    pins = state.get("_pins")
    if is_a(pins, dict):
        for subset in kinds:
            pin = dict.get(pins, subset)
            if is_a(pin, dict) and dict.get(pin, "pin") is not None:
                return bool(dict.get(pin, "registered", True) is True)
        return None
    return True if state.get("_pin") is not None else None  # as earlier versions note it


def patches_pin_in(state: Mapping[str, Any], parameter: str) -> bool | None:
    """The same of the LoRAs' tensors that are patched onto this parameter of the module."""
    return pin_in(state_of(state.get(parameter + PATCHES_SUFFIX)), PINNED_PATCHES)


def is_from_file(storage: Any) -> bool:
    """Whether ComfyUI's own loader mapped this storage from a file, which it reads again whenever the values are needed."""
    return FILE_SLICE in state_of(storage)
