"""Observing before Python 3.12, where there is no `sys.monitoring`: a function's code object is exchanged in place.

The new code is compiled from the function's own source, with a call of ours put before its first line and around each result, on
the lines that were there: identity, signature, source, pickle, line numbers and tracebacks stay as they are. Each call of ours
stands behind `torch.compiler.is_compiling()`, which Dynamo folds away, so that graphs and graph breaks are those of a run without
us (a call through the original under another name was tried: 7 breaks for 4 where a compiled function loads a state dict).
A function whose source can't be had is not observed.
"""

from __future__ import annotations

import ast
import copy
import inspect
import sys
from collections.abc import Sequence
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, Final, NamedTuple, TypeVar

from gpumodels.observing.mechanism import Observation
from gpumodels.support.failures import Failures
from gpumodels.support.resident import resident
from gpumodels.support.torch_private import path_of_is_compiling

Statement = TypeVar("Statement", bound=ast.stmt)
STAND_IN: Final = "\0gpumodels\0"
"""A constant in the compiled source, in whose place the watch is put."""
TORCH: Final = "_torch_of_gpumodels"
CLOSURE: Final = "_around"
FUTURES: Final = 0x1FE0000
"""The flags of a code object that come from `from __future__ import …`."""
UNFIT: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


@resident
class CodeExchange:
    """The functions whose code is exchanged, each with what it was."""

    def __init__(self, torch: ModuleType, failures: Failures) -> None:
        self._torch = torch
        self._failures = failures
        self._is_compiling = path_of_is_compiling(torch)
        self._exchanged: list[tuple[FunctionType, CodeType, CodeType]] = []

    def observe(self, function: FunctionType, observation: Observation) -> None:
        """From now on.

        Raises:
            ValueError: it is a generator, or its source can't be had.
        """
        original = function.__code__
        if original.co_flags & UNFIT:
            raise ValueError("a generator does not return when it seems to")
        try:
            source = inspect.getsource(function)
        except (OSError, TypeError) as error:
            raise ValueError("its source can't be had") from error
        if self._is_compiling is None:
            raise ValueError("this torch can't say whether it compiles")
        knows_torch = function.__globals__.get("torch") is self._torch
        watch = _Watch(self._failures, observation)
        compiling = _IsCompiling("torch" if knows_torch else TORCH, self._is_compiling)
        new = _compiled(source, original, observation, watch, compiling)
        if not _is_the_same_function(original, new):
            raise ValueError("its source says something else than its code")
        function.__code__ = new
        self._exchanged.append((function, original, new))

    def remove(self) -> None:
        """Put the original code back, where it wasn't exchanged again by somebody else."""
        while self._exchanged:
            function, original, new = self._exchanged.pop()
            if function.__code__ is new:
                function.__code__ = original

    @staticmethod
    def entries() -> tuple[CodeType, ...]:
        """The code by which calls come in here."""
        return _Watch.started.__code__, _Watch.returned.__code__


@resident
class _Watch:
    """A constant of the new code, and its two methods that are called there."""

    __slots__ = ("_failures", "_observation")

    def __init__(self, failures: Failures, observation: Observation) -> None:
        self._failures = failures
        self._observation = observation

    def started(self) -> None:
        """The call begins."""
        try:
            self._observation.started(_caller())  # type: ignore[misc]  # only compiled in with it
        except Exception as error:  # noqa: BLE001  # as in a guard, which would be two calls more
            self._failures.note(self._observation.what, error)

    def returned(self, result: Any) -> Any:
        """The call ends with this; given back as it is."""
        try:
            self._observation.returned(_caller(), result)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001
            self._failures.note(self._observation.what, error)
        return result


def _caller() -> FrameType:
    return sys._getframe(2)


@resident
class _IsCompiling(NamedTuple):
    """How the new code asks whether torch compiles."""

    torch: str
    """torch's name there; imported inside of the function where that is TORCH."""
    path: tuple[str, ...]

    def expression(self) -> ast.Call:
        """The question, which Dynamo answers itself."""
        asked: ast.expr = ast.Name(self.torch, ast.Load())
        for name in self.path:
            asked = ast.Attribute(asked, name, ast.Load())
        return ast.Call(asked, [], [])


def _compiled(source: str, original: CodeType, observation: Observation, watch: _Watch, compiling: _IsCompiling) -> CodeType:
    """The function's code with calls of the watch in it.

    Args:
        source: the function's, its decorators included.
        original: its code.
        observation: what is called.
        watch: whose methods are called.
        compiling: how it is asked whether torch compiles.
    """
    # Indented as it stands in the file, so that tracebacks underline what they would.
    is_indented = source[:1].isspace()
    tree = ast.parse(f"if True:\n{source}" if is_indented else source)
    holder = tree.body[0]
    function = holder.body[0] if is_indented and isinstance(holder, ast.If) else holder
    if not isinstance(function, ast.FunctionDef):
        raise ValueError("no plain function")
    function.decorator_list = []
    body = function.body
    if observation.returned is not None:
        body = [_Returns(compiling).visit(statement) for statement in body]
        end = _on_the_line_of(_last_line_of(function), ast.Return(None))
        body.append(_Returns(compiling).visit(end))
    start: list[ast.stmt] = []
    if compiling.torch == TORCH:
        start.append(ast.Import([ast.alias("torch", TORCH)]))
    if observation.started is not None:
        call = ast.Expr(_call("started"))
        start.append(ast.If(ast.UnaryOp(ast.Not(), compiling.expression()), [call], []))
    documented = ast.get_docstring(function) is not None
    # On the line of the first statement, where tools that count lines see one more run of a line that runs anyway.
    first = function.body[documented] if len(function.body) > documented else function
    for statement in start:
        _on_the_line_of(first, statement)
    function.body = [*body[:documented], *start, *body[documented:]]
    tree.body = [_closure(original.co_freevars, function)]
    ast.fix_missing_locations(tree)
    ast.increment_lineno(tree, original.co_firstlineno - 1 - is_indented)
    # Nothing of this is run: annotations and defaults stay the function's own, only its code is taken from here.
    module = compile(tree, original.co_filename, "exec", flags=original.co_flags & FUTURES, dont_inherit=True)
    code = _code_within(_code_within(module, CLOSURE), original.co_name)
    kept: dict[str, Any] = {name: getattr(original, name) for name in ("co_qualname",) if hasattr(original, name)}
    constants = tuple(watch if type(one) is str and one == STAND_IN else one for one in code.co_consts)
    return code.replace(
        co_consts=constants, co_firstlineno=original.co_firstlineno, co_flags=code.co_flags & ~inspect.CO_NESTED, **kept
    )


def _closure(names: Sequence[str], function: ast.FunctionDef) -> ast.FunctionDef:
    """A function around it with these variables, so that they are free ones in it, as `__class__` is where it says `super()`."""
    none = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    variables: list[ast.stmt] = [ast.Assign([ast.Name(name, ast.Store())], ast.Constant(None)) for name in names]
    closure = ast.parse(f"def {CLOSURE}(): pass").body[0]
    assert isinstance(closure, ast.FunctionDef)
    closure.args, closure.body = none, [*variables, function]
    return closure


def _code_within(code: CodeType, name: str) -> CodeType:
    return next(one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == name)


def _is_the_same_function(original: CodeType, new: CodeType) -> bool:
    """Whether the source on disk is what the code was made from, and needed no class around it (`self.__private`)."""
    counts = ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_cellvars", "co_freevars", "co_name")
    taken = original.co_argcount + original.co_kwonlyargcount
    return (
        all(getattr(original, count) == getattr(new, count) for count in counts)
        and original.co_flags & ~inspect.CO_NESTED == new.co_flags
        and original.co_varnames[:taken] == new.co_varnames[:taken]
        and {*original.co_varnames, TORCH} >= {*new.co_varnames} >= {*original.co_varnames}
        and _names_in(original) <= _names_in(new)
    )


def _names_in(code: CodeType) -> set[str]:
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return {*code.co_names, *(name for one in inner for name in _names_in(one))}


def _on_the_line_of(place: ast.stmt, made: Statement) -> Statement:
    """The statement with all that is new in it on the first line of that place, so that no other line is seen to run."""
    for node in ast.walk(made):
        if isinstance(node, (ast.stmt, ast.expr, ast.alias)) and not hasattr(node, "lineno"):
            node.lineno = node.end_lineno = place.lineno
            node.col_offset = node.end_col_offset = place.col_offset
    return made


def _last_line_of(function: ast.FunctionDef) -> ast.stmt:
    """The innermost statement at its end, after which Python puts its own `return None`."""
    last: ast.stmt = function.body[-1]
    while inner := getattr(last, "finalbody", None) or getattr(last, "orelse", None) or getattr(last, "body", None):
        last = inner[-1]
    return last


@resident
class _Returns(ast.NodeTransformer):
    """`return x` becomes `return x if torch.compiler.is_compiling() else watch.returned(x)`; in the function itself only."""

    def __init__(self, compiling: _IsCompiling) -> None:
        self._compiling = compiling

    def visit_Return(self, node: ast.Return) -> ast.Return:
        """The one kind of statement that is changed."""
        result = node.value if node.value is not None else ast.Constant(None)
        value = ast.IfExp(self._compiling.expression(), result, _call("returned", copy.deepcopy(result)))
        return _on_the_line_of(node, ast.Return(value))

    def _leave(self, node: Any) -> Any:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = _leave  # noqa: N815


def _call(method: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Constant(STAND_IN), method, ast.Load()), list(arguments), [])
