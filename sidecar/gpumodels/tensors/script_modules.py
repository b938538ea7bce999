"""Reads what TorchScript holds in C++ only: constants of frozen graphs, attributes, packed weights of quantized modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import MethodType, ModuleType
from typing import Any, Final

from gpumodels.support.failures import Failures
from gpumodels.support.instances import mro_of, state_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import concrete_module_type, packed_type, script_tables

CONSTANT_NODES: Final = ("prim::Constant", "prim::ConstantMKLDNNTensor")
"""Kinds of graph nodes whose value may be a tensor."""

WITHOUT_TENSORS: Final = frozenset({"BoolType", "IntType", "FloatType", "NumberType", "StringType", "NoneType", "DeviceObjType"})
"""Types of attributes that can't hold tensors, and are skipped."""

PACKED_PREFIXES: Final = ("__torch__.torch.classes.quantized.", "__torch__.torch.classes.sparse.", "__torch__.torch.classes.rnn.")
"""Prefixes of torch's own classes of packed weights. Others aren't unpacked, as their `__getstate__` might do anything."""

LINEAR_SUFFIX: Final = "LinearPackedParamsBase"
"""The end of the name of the class that packs weights of linear layers."""

MAX_DEPTH: Final = 6


@never_pickled
class ScriptModules:
    """Reads the C++ objects behind `torch.jit.ScriptModule`s and packed weights."""

    def __init__(self, torch: ModuleType, failures: Failures) -> None:
        self._failures = failures
        self._type: type = torch.jit.ScriptModule
        self._tensor_type: type = torch.Tensor
        self._packed_type: type | None = packed_type(torch)
        self._tables: tuple[Any, ...] = script_tables(torch)
        self._concrete: Any = concrete_module_type(torch)

    def has(self, kind: type) -> bool:
        """Whether this class is derived from `torch.jit.ScriptModule`."""
        return self._type in mro_of(kind)

    def class_name(self, state: dict[str, Any]) -> str | None:
        """The name of the class that was scripted or traced; None if TorchScript doesn't know it."""
        if type(name := state.get("_name")) is str:
            return name
        if (inner := state.get("_c")) is None:
            return None
        with self._failures.guard("reading a script module's class"):
            return str(inner._type().name())
        return None

    def originals(self, state: dict[str, Any]) -> tuple[int, ...]:
        """The ids of the Python modules that a script module was made from, and keeps alive: its methods lead to theirs."""
        methods = [state_of(value).get("__wrapped__", value) for value in state.values()]
        return tuple({id(method.__self__) for method in methods if type(method) is MethodType})

    def tensors(self, state: dict[str, Any]) -> list[tuple[str, Any]]:
        """Names and values of the tensors and packed weights among a module's other attributes and its graphs' constants."""
        found: list[tuple[str, Any]] = []
        inner = state.get("_c")
        if inner is None:
            return found
        with self._failures.guard("reading a script module's attributes"):
            found += self._attributes(inner)
        with self._failures.guard("reading a script module's constants"):
            for method in inner._method_names():
                found += self._constants(inner._get_method(method).graph)
        return found

    def unpacked(self, packed: Any) -> list[Any] | None:
        """The tensors as which packed weights would be pickled, as temporary copies; None if they can't be unpacked.

        Torch packs weights into CPU-specific formats, which are about as large as these tensors.
        """
        with self._failures.guard("unpacking weights"):
            if str(packed._type().qualified_name()).startswith(PACKED_PREFIXES) and packed._has_method("__getstate__"):
                tensors = list(self._within(packed._get_method("__getstate__")()))
                is_linear = packed._type().qualified_name().endswith(LINEAR_SUFFIX)
                return [self._as_packed(tensor) for tensor in tensors] if is_linear else tensors
        return None

    def _as_packed(self, tensor: Any) -> Any:
        """The tensor in the dtype in which it is packed: weights packed as float16 are unpacked to float32."""
        return tensor.half() if tensor.dim() > 1 and tensor.is_floating_point() else tensor

    def _attributes(self, inner: Any) -> Iterable[tuple[str, Any]]:
        if self._concrete is None:
            return
        buffers_and_parameters = {id(tensor) for table in self._tables for _, tensor in table(inner).items()}
        for name, (kind, _) in self._concrete.from_jit_type(inner._type()).get_attributes().items():
            if kind.kind() not in WITHOUT_TENSORS:
                for tensor in self._within(inner.getattr(name), opens=False):
                    if id(tensor) not in buffers_and_parameters:
                        yield name, tensor

    def _constants(self, graph: Any) -> Iterator[tuple[str, Any]]:
        for kind in CONSTANT_NODES:
            for node in graph.findAllNodes(kind):
                for attribute in node.attributeNames():
                    form = node.kindOf(attribute)
                    if form in ("t", "ts", "ival"):
                        name = str(node.output().debugName()).rpartition("self.")[2]
                        value = getattr(node, form)(attribute)
                        for tensor in self._within(value, opens=False):
                            yield name, tensor

    def _within(self, value: Any, depth: int = 0, opens: bool = True) -> Iterator[Any]:
        """The tensors in a value from TorchScript; packed weights are unpacked if `opens`, otherwise yielded as they are."""
        kind = type(value)
        if self._tensor_type in mro_of(kind):
            yield value
        elif kind is self._packed_type:
            yield from (self.unpacked(value) or ()) if opens else (value,)
        elif depth < MAX_DEPTH and kind in (list, tuple, dict):
            for item in value.values() if kind is dict else value:
                yield from self._within(item, depth + 1, opens)
