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
