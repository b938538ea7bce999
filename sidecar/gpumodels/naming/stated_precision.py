"""Finds out how a model's weights are stored, as people call it: by its own quantization config, else by its tensors.

Only dictionaries are read: no code of the host's classes runs. What the answers mean stands in `gpumodels_shared.precision`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from gpumodels.models.assembling import FoundModel
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.support.instances import container_of, is_a, items_of, mro_of, name_of, state_of
from gpumodels.support.module_tables import entries_of, tables_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import without_overrides
from gpumodels_shared.packed_tensors import PACKED, Shape, TensorPrecision
from gpumodels_shared.precision import fits
from gpumodels_shared.precision_words import of_word
from gpumodels_shared.quantization_configs import of_config

MODULES_PER_STEP: Final = 64
MAX_DEPTH: Final = 6
MAX_ITEMS: Final = 64
"""How deep, and how many values of each object, a config is read."""

CONFIGS: Final = ("_internal_dict", "config")
"""Attributes in which a model of diffusers, and one of transformers, keeps its config."""
QUANTIZATION: Final = "quantization_config"

INNER_DATA: Final = ("qdata", "_qdata", "_data")
INNER_SCALES: Final = ("scale", "_scale")
"""Attributes of tensors that consist of others: of torchao, comfy_kitchen and quanto."""
LAYOUTS: Final = ("_layout_cls", "_layout_type", "_qtype")
"""Attributes in which comfy_kitchen's and quanto's tensors keep their format: a text, a class, or an object with a name."""


def stated_precision(found: FoundModel, module: Any, registry: ModuleRegistry, pause: Callable[[], None]) -> str | None:
    """How the model's weights are stored; None if the dtypes say it, or nothing does.

    Args:
        found: the model.
        module: its core; only its config is read.
        registry: finds its modules.
        pause: called between steps.
    """
    if found.adapter is not None or PACKED.isdisjoint(found.dtypes):
        return None
    by_config = of_config(config_of(module))
    if by_config is not None and fits(by_config, found.dtypes):
        return by_config
    return _by_tensors(found, registry, pause)


def config_of(module: Any) -> Mapping[str, object]:
    """The model's quantization config under `quantization_config`, as plain values; empty if it has none."""
    state = state_of(module)
    holders = [state.get(name) for name in CONFIGS]
    holders.append(state.get("hf_quantizer"))
    for holder in holders:
        values = dict(dict.items(holder)) if is_a(holder, dict) else state_of(holder)
        stated = values.get(QUANTIZATION)
        if stated is not None:
            plain = _plain(stated, 0)
            return {QUANTIZATION: plain} if isinstance(plain, dict) else {}
    return {}


def _plain(value: Any, depth: int) -> object:
    """Texts, numbers, dicts and lists as they are; an object as its attributes, with the name of its class under `_type`."""
    kind = type(value)
    if kind in (str, int, float, bool) or value is None:
        return value
    if depth >= MAX_DEPTH:
        return None
    container = container_of(mro_of(kind))
    if container is not None:
        keys, values = items_of(value, container, MAX_ITEMS)
        if keys is None:
            return [_plain(one, depth + 1) for one in values]
        return {key: _plain(one, depth + 1) for key, one in zip(keys, values, strict=True) if type(key) is str}
    state = state_of(value)
    if "_value_" in state:  # a member of an enumeration
        return _plain(state["_value_"], depth + 1)
    if name_of(kind) == "dtype":
        return str(value)
    attributes = {key: _plain(one, depth + 1) for key, one in [*state.items()][:MAX_ITEMS] if type(key) is str}
    return {"_type": name_of(kind), "_data": attributes, **attributes}


@never_pickled
class _TensorFacts:
    """Reads dtype and shape of tensors of any class by torch's own descriptors."""

    def __init__(self, torch: Any) -> None:
        tensor = torch.Tensor
        self.tensor_type: type = tensor
        self.without_overrides = without_overrides(torch)
        self._size: Any = tensor.size
        self._dtype: Any = tensor.dtype.__get__

    def of(self, tensor: Any) -> tuple[str, Shape]:
        """The dtype and the shape. Raises RuntimeError for a tensor that has none yet."""
        return str(self._dtype(tensor)).removeprefix("torch."), tuple(self._size(tensor))

    def has(self, value: Any) -> bool:
        """Whether the value is a tensor."""
        return self.tensor_type in mro_of(type(value))


def _by_tensors(found: FoundModel, registry: ModuleRegistry, pause: Callable[[], None]) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    facts, precision = _TensorFacts(torch), TensorPrecision()
    for row, key in enumerate(found.keys):
        ref = registry.ref(key) if key else None
        module = ref() if ref is not None else None
        if module is not None:
            _add_module(f"{row}.", state_of(module), facts, precision)
        del module
        if row % MODULES_PER_STEP == MODULES_PER_STEP - 1:
            pause()
    return precision.label()


def _add_module(prefix: str, state: Mapping[str, Any], facts: _TensorFacts, precision: TensorPrecision) -> None:
    tables = tables_of(state)
    hqq = state.get("meta")
    bits = hqq.get("nbits") if type(hqq) is dict else None
    with facts.without_overrides():
        # WanVideoWrapper keeps scales in plain attributes.
        attributes = [(name, value) for name, value in [*state.items()] if type(name) is str and "scale" in name]
        for name, tensor in (*entries_of(tables.parameters), *entries_of(tables.buffers), *attributes):
            if not facts.has(tensor):
                continue
            try:
                dtype, shape = facts.of(tensor)
            except (RuntimeError, ValueError, TypeError):
                continue  # not initialised
            if type(bits) is int and name == "W_q":
                precision.add_stated(f"int{bits} HQQ", _count(shape) * 8 // max(1, bits))
            else:
                _add_tensor(prefix + name, tensor, dtype, shape, state, facts, precision)


def _add_tensor(
    key: str, tensor: Any, dtype: str, shape: Shape, module: Mapping[str, Any], facts: _TensorFacts, precision: TensorPrecision
) -> None:
    """Add a tensor: by what it says of itself, by those that it consists of, or as it is."""
    state = state_of(tensor)
    kept = state.get("quant_state")
    if kept is None and key.endswith(".weight"):
        kept = module.get("quant_state")
    stated = state_of(kept).get("quant_type")
    if type(stated) is str and (label := of_word(stated)) is not None:  # bitsandbytes'
        precision.add_stated(label, 2 * _count(shape))
        return
    if name_of(type(tensor)) == "Int8Params" and dtype == "int8":
        precision.add_stated("int8", _count(shape))
        return
    inner = next((state[name] for name in INNER_DATA if facts.has(state.get(name))), None)
    if inner is None:
        precision.add(key, dtype, shape)
        return
    said = next((text for name in LAYOUTS if (text := _name_in(state.get(name)))), name_of(type(tensor)))
    named = of_word(said)
    if named is not None:
        precision.add_stated(named, _count(shape))
        return
    scale = next((state[name] for name in INNER_SCALES if facts.has(state.get(name))), None)
    precision.add(key, *facts.of(inner))
    if scale is not None:
        precision.add(f"{key}_scale", *facts.of(scale))


def _name_in(value: Any) -> str:
    """A text, the name of a class, or the name that an object states for itself; empty for anything else."""
    if type(value) is str:
        return value
    if is_a(value, type):
        return name_of(value)
    stated = state_of(value).get("name")
    return stated if type(stated) is str else ""


def _count(shape: Shape) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
