"""Counts the parameters of quantized modules as they were before a library packed them: a byte may hold two weights.

The numbers are the library's own: the original shape in a quantization state, or the sizes that a module keeps beside its packed
weights; else the packed weights' shape, where the scales beside them show their format. Scales, zero points and codebooks are no
parameters. What nothing is known of is counted as torch counts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from types import ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.support.instances import container_of, items_of, mro_of, state_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import without_overrides
from gpumodels_shared.packed_tensors import label_of_group

SHAPE_ATTRIBUTES: Final = ("quant_shape", "tensor_shape", "ds_shape")
"""Attributes in which a tensor keeps its original shape: GGUF in diffusers and in ComfyUI's node packs, DeepSpeed."""

QUANTIZATION_STATE: Final = "quant_state"
"""The attribute in which a tensor or its module keeps bitsandbytes' object with the original `shape`."""
HQQ_STATE: Final = "meta"
"""The attribute in which a module keeps HQQ's dict with the original `shape`."""

SIZES_OF_WEIGHTS: Final = (
    ("out_features", "in_features"),
    ("num_embeddings", "embedding_dim"),
    ("output_size_per_partition", "input_size_per_partition"),
    ("outfeatures", "infeatures"),
)
"""Attributes that give the shape of a module's one weight: torch's names, which nearly all libraries keep, vLLM's,
and AutoGPTQ's."""

HIDDEN_SIZES: Final = ("hidden_size", "hidden_dim")
INNER_SIZES: Final = ("intermediate_size_per_partition", "intermediate_size", "intermediate_dim")
"""Attributes of modules that hold the stacked weights of a layer's experts: of transformers and vLLM."""
DOWN_PREFIXES: Final = ("down", "w2")
"""How the names of the weights begin that lead from the inner size to the hidden size."""

_PACKED_DTYPES: Final = """
uint8 int8 uint16 int16 uint32 int32 int64 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float4_e2m1fn_x2
"""
PACKED_DTYPES: Final = frozenset(_PACKED_DTYPES.split())
"""Dtypes that hold quantized weights."""

STATE_WORDS: Final = ("scale", "zero", "absmax", "codebook", "tables", "qbiases", "_shape", "g_idx", "_perm", "SCB", "weight_sf")
"""Parts of the names of tensors that belong to the quantization: scales, zero points, codebooks, orders, shapes."""

MAX_DIMENSIONS: Final = 16

MIN_BITS: Final = 0.9
MAX_BITS: Final = 16.5
"""So many bits per element may a packed tensor have that holds a weight of the stated size."""

_SIMPLE: Final = frozenset({bool, int, float, str, type(None), dict, list, tuple, set})


@never_pickled
class _Tensor(NamedTuple):
    """A parameter or buffer of a module."""

    name: str
    tensor: Any
    shape: tuple[int, ...]
    elements: int
    size_bytes: int
    is_packed: bool
    is_parameter: bool
    dtype: str = ""


def stated_elements(state: Mapping[str, Any]) -> int | None:
    """The number of elements of the original shape that a tensor keeps; None if it keeps none.

    Args:
        state: the tensor's instance dictionary.
    """
    for name in SHAPE_ATTRIBUTES:
        if name in state and (elements := _product(state[name])) is not None:
            return elements
    return _by_quantization_state(state) if state else None


def is_tensor_of_a_kernel(state: Mapping[str, Any]) -> bool:
    """Whether it is the instance dictionary of a tensor that is none of torch's, as Triton's kernels have for MXFP4 weights."""
    return "storage" in state and "shape" in state and "dtype" in state


@never_pickled
class PackedParameters:
    """Counts the parameters of modules whose weights are packed."""

    def __init__(self, torch: ModuleType) -> None:
        tensor = torch.Tensor
        self._without_overrides = without_overrides(torch)
        self._size: Any = tensor.size
        self._element_size: Any = tensor.element_size
        self._dtype_of: Any = tensor.dtype.__get__
        self._packed = frozenset(getattr(torch, name) for name in PACKED_DTYPES if hasattr(torch, name))
        self._tensor_type: type = tensor

    def may_hold(self, state: Mapping[str, Any], dtypes: Iterable[str]) -> bool:
        """Whether the module's weights may be packed.

        Args:
            state: the module's instance dictionary.
            dtypes: those of its tensors.
        """
        return QUANTIZATION_STATE in state or HQQ_STATE in state or not PACKED_DTYPES.isdisjoint(dtypes)

    def counted(
        self,
        state: Mapping[str, Any],
        modules: Mapping[str, Any],
        parameters: Mapping[str, Any],
        buffers: Mapping[str, Any],
        as_torch_counts: Sequence[tuple[int, int]],
    ) -> list[tuple[int, int]]:
        """Identities and numbers of elements of a module's parameters before they were packed.

        Args:
            state: the module's instance dictionary.
            modules: its child modules.
            parameters: its parameters.
            buffers: its buffers.
            as_torch_counts: identities and numbers of elements of the parameters as they are.
        """
        with self._without_overrides():
            tensors = [
                self._tensor(name, tensor, table is parameters)
                for table in (parameters, buffers)
                for name, tensor in table.items()
                if tensor is not None
            ]
        found = _sizes_of_kernel_tensors(state)
        known = {**dict(as_torch_counts), **found}
        weights = [one for one in tensors if one.name != "bias" and not any(word in one.name for word in STATE_WORDS)]
        if weights:
            largest = max(weights, key=lambda one: one.size_bytes)
            elements = stated_elements(state_of(largest.tensor))  # the module may have got its sizes from the packed tensor
            if elements is None:
                elements = _by_quantization_state(state)
            if elements is None and largest.name == "original":
                elements = _by_parametrization(modules)
            if elements is None and largest.is_packed:
                elements = _by_sizes_of_the_weight(state, largest)
            if elements is not None:
                found[id(largest.tensor)] = elements
            else:
                found.update((id(one.tensor), size) for one in weights if (size := _by_sizes_of_experts(state, one)) is not None)
                if not found and largest.is_packed:
                    found.update(_by_scales(largest, tensors))
        if not found:
            return [*known.items()]
        bias = next((one.tensor for one in tensors if one.name == "bias"), state.get("bias"))
        if bias is not None and self._tensor_type in mro_of(type(bias)):
            with self._without_overrides():
                found[id(bias)] = known.get(id(bias), prod(self._size(bias)))
        for one in weights:
            if one.is_parameter and not one.is_packed:
                found.setdefault(id(one.tensor), known[id(one.tensor)])
        return [*found.items()]

    def _tensor(self, name: str, tensor: Any, is_parameter: bool) -> _Tensor:
        shape = tuple(self._size(tensor))
        elements = prod(shape)
        dtype = self._dtype_of(tensor)
        size_bytes, name_of_dtype = elements * self._element_size(tensor), str(dtype).removeprefix("torch.")
        return _Tensor(name, tensor, shape, elements, size_bytes, dtype in self._packed, is_parameter, name_of_dtype)


def _product(shape: Any) -> int | None:
    if shape is None:
        return None
    container = container_of(mro_of(type(shape)))
    if container not in (tuple, list):
        return None
    _, sizes = items_of(shape, container, MAX_DIMENSIONS)
    return prod(sizes) if sizes and all(type(size) is int for size in sizes) else None


def _by_quantization_state(state: Mapping[str, Any]) -> int | None:
    kept = state.get(QUANTIZATION_STATE)
    if kept is not None:
        return _product(state_of(kept).get("shape"))
    kept = state.get(HQQ_STATE)
    return _product(kept.get("shape")) if type(kept) is dict and "nbits" in kept else None


def _by_parametrization(modules: Mapping[str, Any]) -> int | None:
    """What the modules in a `ParametrizationList` say of the tensor that they unpack, as bitsandbytes' does."""
    stated = (_by_quantization_state(state_of(child)) for child in modules.values() if child is not None)
    return next((elements for elements in stated if elements is not None), None)


def _sizes_of_kernel_tensors(state: Mapping[str, Any]) -> dict[int, int]:
    found: dict[int, int] = {}
    for value in [*state.values()]:
        if type(value) not in _SIMPLE and is_tensor_of_a_kernel(inner := state_of(value)):
            elements = _product(inner["shape"])
            if elements is not None:
                found[id(value)] = elements
    return found


def _by_sizes_of_the_weight(state: Mapping[str, Any], weight: _Tensor) -> int | None:
    for names in SIZES_OF_WEIGHTS:
        sizes = [state.get(name) for name in names]
        if all(type(size) is int for size in sizes):
            elements = prod(sizes)  # type: ignore[arg-type]  # checked in the line above
            return elements if _fits(weight.size_bytes, elements) else None
    return None


def _by_scales(weight: _Tensor, tensors: Sequence[_Tensor]) -> dict[int, int]:
    """The size of a weight whose module keeps none, by the scales beside it, as the formats have them."""
    packed = label_of_group({one.name: (one.dtype, one.shape) for one in tensors})
    return {id(weight.tensor): packed[1]} if packed is not None and _fits(weight.size_bytes, packed[1]) else {}


def _by_sizes_of_experts(state: Mapping[str, Any], weight: _Tensor) -> int | None:
    """Of the stacked weights of experts, `(experts, rows, packed columns)`, the size whose rows and columns the module keeps."""
    hidden, inner = _first_size(state, HIDDEN_SIZES), _first_size(state, INNER_SIZES)
    if not weight.is_packed or not weight.is_parameter or len(weight.shape) != 3 or hidden is None or inner is None:
        return None
    is_down = weight.name.startswith(DOWN_PREFIXES)
    rows, columns = ((hidden,), inner) if is_down else ((inner, 2 * inner), hidden)
    elements = weight.shape[0] * weight.shape[1] * columns
    return elements if weight.shape[1] in rows and _fits(weight.size_bytes, elements) else None


def _first_size(state: Mapping[str, Any], names: Sequence[str]) -> int | None:
    return next((size for name in names if type(size := state.get(name)) is int), None)


def _fits(size_bytes: int, elements: int) -> bool:
    return MIN_BITS * elements <= 8 * size_bytes <= MAX_BITS * elements
