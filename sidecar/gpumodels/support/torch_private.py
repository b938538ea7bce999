"""torch's private names that observing needs, each with a way on where it is missing."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from operator import attrgetter
from types import CodeType, ModuleType
from typing import Any, Final

PARAMETERS: Final = "_parameters"
BUFFERS: Final = "_buffers"
MODULES: Final = "_modules"
"""Under these names a module's instance dictionary holds its parameters, buffers and submodules, by name. So since torch 0.1."""
TRACED: Final = "_actual_script_module"
"""Under this name a traced module holds its script module, and nothing under the three names above."""
LOAD_HOOKS: Final = "_load_state_dict_post_hooks"
"""Under this name it holds the hooks that run after values were loaded. So since torch 1.12."""


HOOKS: Final = {
    "_forward_hooks": "forward hook",
    "_forward_pre_hooks": "forward pre-hook",
    "_backward_hooks": "backward hook",
    "_backward_pre_hooks": "backward pre-hook",
    "_state_dict_hooks": "state dict hook",
    "_load_state_dict_pre_hooks": "hook for loading a state dict",
    LOAD_HOOKS: "hook after loading a state dict",
}
"""Under these names it holds what else was registered with it, and what that is called."""


def storage_identity(torch: ModuleType) -> Callable[[Any], int]:
    """A function that gives a number for a storage: the same for all Python objects of one storage, and only for these."""
    if hasattr(torch.empty(0).untyped_storage(), "_cdata"):
        return attrgetter("_cdata")
    return _address_of


def _address_of(storage: Any) -> int:
    address: int = storage.data_ptr()
    return address


def tensor_identity(torch: ModuleType) -> Callable[[Any], int]:
    """The same for tensors, without running a subclass's code."""
    descriptor = getattr(torch.Tensor, "_cdata", None)
    found: Callable[[Any], int] = id if descriptor is None else descriptor.__get__
    return found


def writes_of(tensor: Any) -> int | None:
    """How often this plain tensor was written to in place, as autograd counts; None for inference tensors, which don't count.

    What is written through `.data` isn't counted.
    """
    try:
        return int(tensor._version)
    except RuntimeError:
        return None


def data_address(torch: ModuleType) -> Callable[[Any], int]:
    """A function that gives the address at which a plain tensor's values begin, without making a copy of lazily copied ones."""
    found: Callable[[Any], int] | None = getattr(torch._C, "_data_address", None)
    return torch.Tensor.data_ptr if found is None else found


def history_is_recorded(torch: ModuleType, kind: str) -> bool | None:
    """Whether this kind of accelerator's allocator records stacks; None where this torch doesn't tell."""
    asked = getattr(torch._C, f"_{kind}_isHistoryEnabled", None)
    return bool(asked()) if asked is not None else None


def private_backend(torch: ModuleType) -> str | None:
    """The name of the backend that was added to this torch; None as long as nobody has named one."""
    name_of = getattr(getattr(torch, "_C", None), "_get_privateuse1_backend_name", None)
    name = name_of() if name_of is not None else None
    return name if type(name) is str and name != "privateuseone" else None


def cuda_allocator(torch: ModuleType) -> str | None:
    """Which allocator of CUDA is in use, in torch's words: `native`, `cudaMallocAsync`, `pluggable`. No driver call."""
    backend = getattr(getattr(torch, "_C", None), "_cuda_getAllocatorBackend", None)
    try:
        name = backend() if backend is not None else None
    except RuntimeError:
        return None
    return name if type(name) is str else None


def packed_type(torch: ModuleType) -> type | None:
    """The class of packed weights, as of quantized layers; None where this torch has none."""
    return getattr(torch._C, "ScriptObject", None)


def script_tables(torch: ModuleType) -> tuple[Any, ...]:
    """Functions that give the parameters and the buffers of the C++ object behind a TorchScript module."""
    return tuple(table for name in ("ParameterDict", "BufferDict") if (table := getattr(torch._C, name, None)) is not None)


def concrete_module_type(torch: ModuleType) -> Any:
    """What tells the attributes of a TorchScript class; None where this torch can't."""
    return getattr(torch._C, "ConcreteModuleType", None)


def without_modes(torch: ModuleType) -> Callable[[], AbstractContextManager[Any]]:
    """A context in which reading a tensor's attributes runs no `__torch_function__`, of a subclass or of an active mode."""
    guard: Callable[[], AbstractContextManager[Any]] | None = getattr(torch._C, "DisableTorchFunction", None)
    return nullcontext if guard is None else guard


def without_overrides(torch: ModuleType) -> Callable[[], AbstractContextManager[Any]]:
    """A context in which reading a tensor's attributes runs no subclass's `__torch_function__`."""
    guard: Callable[[], AbstractContextManager[Any]] | None = getattr(torch._C, "DisableTorchFunctionSubclass", None)
    return without_modes(torch) if guard is None else guard


def storages_can_be_referred_to(torch: ModuleType) -> bool:
    """Whether a weak reference to a storage lives as long as its memory: so since torch 2.1."""
    tensor = torch.empty(1)
    reference = weakref.ref(tensor.untyped_storage())
    return reference() is not None


def can_keep_from_compiler(torch: ModuleType) -> bool:
    """Whether this torch lets frames be kept from Dynamo together with all that they call: from 2.7 or so on.

    Where it doesn't, nothing is observed: Dynamo compiled what a skipped frame of ours called, and torch 2.1.2 crashed in it.
    """
    evaluation = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)
    return all(hasattr(evaluation, name) for name in ("_FrameAction", "_FrameExecStrategy", "set_code_exec_strategy"))


def keep_from_compiler(torch: ModuleType, codes: Iterable[CodeType]) -> None:
    """Tell Dynamo never to compile frames of this code, which would be counted among the host's, nor what they call.

    It meets them where a compiled function breaks and goes on in the interpreter.
    """
    if can_keep_from_compiler(torch):
        evaluation = torch._C._dynamo.eval_frame
        skip = evaluation._FrameAction.SKIP
        for code in codes:
            evaluation.set_code_exec_strategy(code, evaluation._FrameExecStrategy(skip, skip))


IS_COMPILING: Final = (("compiler", "is_compiling"), ("_utils", "is_compiling"))
"""Where torch says whether it is compiling: from 2.2 or so on, and before."""


def path_of_is_compiling(torch: ModuleType) -> tuple[str, ...] | None:
    """Where this torch has the function whose answer Dynamo folds into what it traces; None where it has none."""
    for path in IS_COMPILING:
        found: Any = torch
        for name in path:
            found = getattr(found, name, None)
        if callable(found):
            return path
    return None


def is_compiling(torch: ModuleType) -> Callable[[], bool]:
    """That function; one that says no where there is none."""
    found: Any = torch
    for name in path_of_is_compiling(torch) or ():
        found = getattr(found, name)
    return found if found is not torch else bool


COMPILING_MODULE: Final = "torch._dynamo.eval_frame"


def compiling_context(module: ModuleType) -> Any:
    """Of that module, the method that is given whatever is compiled, as `fn`; None where this torch has none."""
    context = getattr(module, "_TorchDynamoContext", None)
    return vars(context).get("__call__") if isinstance(context, type) else None


def scripting(torch: ModuleType) -> Any:
    """The function that makes a TorchScript module of another module; None where this torch has none."""
    return getattr(getattr(torch.jit, "_recursive", None), "create_script_module", None)


def has_compiled() -> bool:
    """Whether Dynamo has compiled anything that may still be run, as far as it remembers; True where that isn't known."""
    converter: Any = sys.modules.get("torch._dynamo.convert_frame")
    if converter is None or getattr(getattr(converter, "__spec__", None), "_initializing", False):
        return False  # it can't have run yet
    seen = getattr(getattr(converter, "input_codes", None), "seen", None)
    return type(seen) is not list or bool(seen)


def is_trace_context(profile: object) -> bool:
    """Whether this is what `sys.getprofile` gives in a thread that `torch.profiler.profile(with_stack=True)` records."""
    kind = type(profile)
    named: tuple[object, object] = type.__getattribute__(kind, "__module__"), type.__getattribute__(kind, "__name__")
    return named == ("builtins", "TraceContext")


def torch_profiler_is_running() -> bool:
    """Whether a profile of `torch.profiler` or `torch.autograd.profiler` is being recorded in this process."""
    profiler = sys.modules.get("torch.autograd.profiler")
    return type(profiler) is ModuleType and profiler.__dict__.get("_is_profiler_enabled") is True


def write_allocator_history(torch: ModuleType, path: str) -> bool:
    """Write CUDA's memory as the allocator knows it, with its history where that is recorded, for torch's memory viewer.

    Returns:
        Whether it could be written: not where this torch can't, or the host has not initialised CUDA.
    """
    write = getattr(torch.cuda.memory, "_dump_snapshot", None)
    if write is None or not torch.cuda.is_initialized():
        return False
    write(path)
    return True
