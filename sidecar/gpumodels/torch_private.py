"""torch's private names that observing needs, each with a way on where it is missing."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from types import CodeType, ModuleType
from typing import Any, Final


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


def keep_from_compiler(torch: ModuleType, codes: Iterable[CodeType]) -> None:
    """Tell Dynamo never to compile frames of this code, which would be counted among the host's, nor what they call.

    It meets them where a compiled function breaks and goes on in the interpreter.
    """
    evaluation = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)
    skip: Callable[[CodeType], object] | None = getattr(evaluation, "skip_code", None)  # until torch 2.6
    action, strategy = getattr(evaluation, "_FrameAction", None), getattr(evaluation, "_FrameExecStrategy", None)
    for code in codes:
        if skip is not None:
            skip(code)
        elif action is not None and strategy is not None and evaluation is not None:
            evaluation.set_code_exec_strategy(code, strategy(action.SKIP, action.SKIP))


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
