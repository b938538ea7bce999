"""torch's private names: what is done with them in this torch, and without them in others."""

from __future__ import annotations

from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.overrides import TorchFunctionMode

from gpumodels.support.torch_private import (
    can_keep_from_compiler,
    is_compiling,
    keep_from_compiler,
    path_of_is_compiling,
    storages_can_be_referred_to,
    without_modes,
    without_overrides,
    write_allocator_history,
)

RAN: list[str] = []
"""What was run of the classes below."""


class Subclass(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        RAN.append("subclass")
        return super().__torch_function__(function, types, arguments, options or {})  # type: ignore[no-untyped-call]


class Mode(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        RAN.append("mode")
        return function(*arguments, **(options or {}))


def a_torch(**names: Any) -> Any:
    """One that has these names, and no others."""
    made: Any = ModuleType("torch")
    made.__dict__.update({"_C": SimpleNamespace(), **names})
    return made


def asked_within(context: Any) -> list[str]:
    tensor, mode = torch.zeros(2, 3).as_subclass(Subclass), Mode()
    with mode:
        RAN.clear()
        with context:
            assert torch.Tensor.numel(tensor) == 6
    return list(RAN)


def test_neither_subclasses_nor_modes_see_what_is_read_without_them() -> None:
    assert asked_within(nullcontext()) == ["mode", "subclass"]
    assert asked_within(without_modes(torch)()) == []
    assert "subclass" not in asked_within(without_overrides(torch)())


def test_a_torch_without_such_contexts_is_read_as_it_is() -> None:
    old = a_torch()
    assert asked_within(without_modes(old)()) == asked_within(without_overrides(old)()) == ["mode", "subclass"]
    one: Any = a_torch(_C=SimpleNamespace(DisableTorchFunction=torch._C.DisableTorchFunction))
    assert asked_within(without_overrides(one)()) == []


def test_storages_can_be_referred_to_where_the_same_object_comes_again() -> None:
    assert storages_can_be_referred_to(torch)

    class Passing:
        """As before torch 2.1: each call makes a new one."""

    assert not storages_can_be_referred_to(a_torch(empty=lambda _: SimpleNamespace(untyped_storage=Passing)))


def test_a_compiler_is_told_of_each_code_and_of_all_that_it_calls() -> None:
    told: list[tuple[Any, Any]] = []
    evaluation = SimpleNamespace(
        _FrameAction=SimpleNamespace(SKIP="skip"),
        _FrameExecStrategy=lambda *actions: actions,
        set_code_exec_strategy=lambda code, strategy: told.append((code, strategy)),
    )
    one = a_torch(_C=SimpleNamespace(_dynamo=SimpleNamespace(eval_frame=evaluation)))
    codes = [a_torch.__code__, asked_within.__code__]
    assert can_keep_from_compiler(one)
    keep_from_compiler(one, codes)
    assert told == [(code, ("skip", "skip")) for code in codes]


@pytest.mark.parametrize("missing", ["_FrameAction", "_FrameExecStrategy", "set_code_exec_strategy"])
def test_a_compiler_that_can_not_be_told_is_left_alone(missing: str) -> None:
    evaluation = SimpleNamespace(
        _FrameAction=None, _FrameExecStrategy=None, set_code_exec_strategy=lambda *_: pytest.fail("told")
    )
    delattr(evaluation, missing)
    for names in ({}, {"_dynamo": SimpleNamespace()}, {"_dynamo": SimpleNamespace(eval_frame=evaluation)}):
        one = a_torch(_C=SimpleNamespace(**names))
        assert not can_keep_from_compiler(one)
        keep_from_compiler(one, [a_torch.__code__])


def test_whether_torch_compiles_is_asked_where_this_torch_says_it() -> None:
    old = SimpleNamespace(is_compiling=lambda: True)
    new = SimpleNamespace(is_compiling=lambda: True)
    assert path_of_is_compiling(torch) == ("compiler", "is_compiling")
    assert is_compiling(torch) is torch.compiler.is_compiling
    assert path_of_is_compiling(a_torch(_utils=old)) == ("_utils", "is_compiling")
    assert is_compiling(a_torch(_utils=old)) is old.is_compiling
    assert is_compiling(a_torch(_utils=old, compiler=new)) is new.is_compiling


def test_a_torch_that_says_nowhere_whether_it_compiles_does_not() -> None:
    for names in ({}, {"compiler": SimpleNamespace()}, {"compiler": SimpleNamespace(is_compiling=True)}):
        one = a_torch(**names)
        assert path_of_is_compiling(one) is None
        assert is_compiling(one)() is False


def test_the_allocators_history_is_written_where_cuda_runs_and_this_torch_can() -> None:
    written: list[str] = []
    memory = SimpleNamespace(_dump_snapshot=written.append)
    cuda = SimpleNamespace(memory=memory, is_initialized=lambda: True)
    assert write_allocator_history(cast("ModuleType", SimpleNamespace(cuda=cuda)), "/x.pickle")
    assert written == ["/x.pickle"]
    cuda.is_initialized = lambda: False
    assert not write_allocator_history(cast("ModuleType", SimpleNamespace(cuda=cuda)), "/x.pickle")
    del memory._dump_snapshot
    cuda.is_initialized = lambda: True
    assert not write_allocator_history(cast("ModuleType", SimpleNamespace(cuda=cuda)), "/x.pickle")
    assert len(written) == 1
    assert not write_allocator_history(torch, "/x.pickle")
