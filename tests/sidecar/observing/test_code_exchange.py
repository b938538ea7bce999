"""What is particular to exchanging code; what both ways of observing must do is in `test_observers`."""

from __future__ import annotations

import linecache
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import FrameType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from gpumodels.observing.code_exchange import CodeExchange
from gpumodels.observing.mechanism import Observation
from gpumodels.support.failures import Failures


@pytest.fixture
def failures() -> Failures:
    return Failures()


@pytest.fixture
def exchange(failures: Failures) -> Iterator[CodeExchange]:
    made = CodeExchange(torch, failures)
    yield made
    made.remove()
    assert failures.count == 0


def adds(one: int, *, other: int = 2) -> int:
    """Of this file, so that its source can be had."""
    return one + other


def counts(up_to: int) -> Iterator[int]:
    yield from range(up_to)


async def comes_in_pieces() -> AsyncIterator[int]:
    yield 1


def finds(numbers: list[int], sought: int) -> int | None:
    def position() -> int:
        return numbers.index(sought)

    named: Callable[[], int] = lambda: 99  # noqa: E731
    try:
        if sought == 0:
            return named()
        return position()
    except ValueError:
        return None


class Adder:
    def adds(self, one: int) -> int:
        return adds(one) + 1


class Secretive:
    def _private(self) -> str:
        return self.__secret()

    def __secret(self) -> str:
        return "kept"


def observed(exchange: CodeExchange, function: Any) -> list[Any]:
    """What is seen of the function's calls from now on: its name at the start, results at the end."""
    seen: list[Any] = []

    def started(frame: FrameType) -> None:
        seen.append(frame.f_code.co_name)

    def returned(frame: FrameType, result: Any) -> None:
        seen.append(result)

    assert isinstance(function, FunctionType)
    exchange.observe(function, Observation("observing", started, returned))
    return seen


def of_a_file(path: Path, source: str) -> dict[str, Any]:
    """The names that the file defines."""
    path.write_text(source)
    scope: dict[str, Any] = {"__name__": path.stem}
    exec(compile(source, str(path), "exec"), scope)
    return scope


def test_code_that_somebody_else_exchanged_meanwhile_is_left_to_them(exchange: CodeExchange) -> None:
    original = adds.__code__
    observed(exchange, adds)
    theirs = (lambda one, *, other=2: 99).__code__
    adds.__code__ = theirs
    try:
        exchange.remove()
        assert adds.__code__ is theirs
    finally:
        adds.__code__ = original


def test_a_function_that_its_source_does_not_make_is_not_observed(exchange: CodeExchange, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="source"):
        observed(exchange, Secretive._private)  # `__secret` means another name outside of its class
    path = tmp_path / "changed.py"
    made = of_a_file(path, "def made(one):\n    return one\n")["made"]
    path.write_text("def made(other):\n    return other + 1\n")
    linecache.checkcache(str(path))
    with pytest.raises(ValueError, match="source"):
        observed(exchange, made)
    nowhere: dict[str, Any] = {"__name__": "nowhere"}
    exec(compile("def made(one): return one", "<nowhere at all>", "exec"), nowhere)
    with pytest.raises(ValueError, match="source"):
        observed(exchange, nowhere["made"])
    assert made(1) == nowhere["made"](1) == 1


def test_a_method_that_calls_a_function_of_its_own_name_is_observed(exchange: CodeExchange) -> None:
    seen = observed(exchange, Adder.adds)
    assert Adder().adds(1) == 4
    assert seen == ["adds", 4]


@pytest.mark.parametrize("function", [counts, comes_in_pieces], ids=lambda function: function.__name__)
def test_what_returns_before_it_ends_is_not_observed(exchange: CodeExchange, function: Any) -> None:
    code = function.__code__
    with pytest.raises(ValueError, match="generator"):
        observed(exchange, function)
    assert function.__code__ is code


def test_a_torch_that_can_not_say_whether_it_compiles_has_nothing_observed(failures: Failures) -> None:
    other = ModuleType("torch")
    other._C = SimpleNamespace()  # type: ignore[attr-defined]
    code = adds.__code__
    with pytest.raises(ValueError, match="compiling"):
        observed(CodeExchange(other, failures), adds)
    assert adds.__code__ is code


def test_results_of_the_function_itself_are_seen_and_not_those_of_functions_in_it(exchange: CodeExchange) -> None:
    seen = observed(exchange, finds)
    assert (finds([5, 6], 6), finds([5], 7), finds([], 0)) == (1, None, 99)
    assert seen == ["finds", 1, "finds", None, "finds", 99]


def test_nothing_is_seen_while_torch_compiles(exchange: CodeExchange, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_torch = of_a_file(tmp_path / "without.py", "def twice(one):\n    return 2 * one\n")["twice"]
    seen = [observed(exchange, adds), observed(exchange, without_torch)]
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert (adds(1), without_torch(4)) == (3, 8)
    assert seen == [[], []]
    assert (adds(1), without_torch(4)) == (3, 8)
    assert seen == [["adds", 3], ["twice", 8]]


def test_a_global_of_the_hosts_that_is_called_torch_is_not_asked(exchange: CodeExchange, tmp_path: Path) -> None:
    scope = of_a_file(tmp_path / "theirs.py", "torch = 'a light'\ndef lit():\n    return torch\n")
    seen = observed(exchange, scope["lit"])
    assert scope["lit"]() == "a light"
    assert seen == ["lit", "a light"]


def test_variables_of_the_function_around_are_shared_as_before(exchange: CodeExchange) -> None:
    total = 0

    def adds_up(one: int) -> int:
        nonlocal total
        total += one
        return total

    seen = observed(exchange, adds_up)
    assert [adds_up(1), adds_up(2)] == [1, 3]
    assert total == 3
    assert seen == ["adds_up", 1, "adds_up", 3]


def test_only_what_is_asked_for_is_called(exchange: CodeExchange) -> None:
    function: Any = adds
    starts: list[str] = []
    exchange.observe(function, Observation("observing", lambda frame: starts.append(frame.f_code.co_name), None))
    assert adds(1) == 3
    exchange.remove()
    ends: list[int] = []
    exchange.observe(function, Observation("observing", None, lambda _, result: ends.append(result)))
    assert adds(2) == 4
    assert (starts, ends) == (["adds"], [4])
