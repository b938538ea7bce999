"""Observes calls before Python 3.12, where there is no `sys.monitoring`: a function's code object is exchanged in place.

The new code is compiled from the function's own source, with a call of ours inserted before its first statement and around each
result, on existing lines: identity, signature, source, pickle, line numbers and tracebacks stay as they are. Each of our calls is
guarded by `torch.compiler.is_compiling()`, which Dynamo folds away, so that graphs and graph breaks are those of a run without us
(calling the original under another name was tried: 7 breaks instead of 4 where a compiled function loads a state dict).
A function whose source isn't available is not observed.
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
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import path_of_is_compiling

Statement = TypeVar("Statement", bound=ast.stmt)
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
"""A coroutine's code is exchanged like any other: its call starts when it first runs, and returns when it is over."""
PLACEHOLDER: Final = "\0gpumodels\0"
"""A placeholder among the constants of the compiled code, to be replaced by the `_CallObserver`."""
TORCH_ALIAS: Final = "_torch_of_gpumodels"
"""The name under which the new code imports torch, where the function's module has no `torch`."""
CLOSURE_NAME: Final = "_around"
"""The name of the enclosing function that provides free variables."""
FUTURE_FLAGS: Final = 0x1FE0000
"""The flags of a code object that come from `from __future__ import …`."""
UNSUPPORTED_FLAGS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


@never_pickled
class CodeExchange:
    """The functions whose code was exchanged, each with its original code."""

    def __init__(self, torch: ModuleType, failures: Failures) -> None:
        self._torch = torch
        self._failures = failures
        self._is_compiling = path_of_is_compiling(torch)
        self._exchanged: list[tuple[FunctionType, CodeType, CodeType]] = []

    def observe(self, function: FunctionType, observation: Observation) -> None:
        """Exchange the function's code for one that calls the observation.

        Raises:
            ValueError: it is a generator, or its source isn't available or doesn't match its code.
        """
        original = function.__code__
        if original.co_flags & UNSUPPORTED_FLAGS:
            raise ValueError("it is a generator")
        try:
            source = inspect.getsource(function)
        except (OSError, TypeError) as error:
            raise ValueError("its source is not available") from error
        if self._is_compiling is None:
            raise ValueError("this torch doesn't tell whether it is compiling")
        knows_torch = function.__globals__.get("torch") is self._torch
        observer = _CallObserver(self._failures, observation)
        compiling = _IsCompiling("torch" if knows_torch else TORCH_ALIAS, self._is_compiling)
        new = _compiled(source, original, observation, observer, compiling)
        if not _is_the_same_function(original, new):
            raise ValueError("its source doesn't match its code")
        function.__code__ = new
        self._exchanged.append((function, original, new))

    def remove(self) -> None:
        """Restore the original code of each function, unless somebody else has replaced ours since."""
        while self._exchanged:
            function, original, new = self._exchanged.pop()
            if function.__code__ is new:
                function.__code__ = original

    @staticmethod
    def entries() -> tuple[CodeType, ...]:
        """The code objects of our methods that observed functions call."""
        return _CallObserver.started.__code__, _CallObserver.returned.__code__


@never_pickled
class _CallObserver:
    """A constant of the new code, which calls these two methods."""

    __slots__ = ("_failures", "_observation")

    def __init__(self, failures: Failures, observation: Observation) -> None:
        self._failures = failures
        self._observation = observation

    def started(self) -> None:
        """Report the start of the call."""
        try:
            self._observation.started(_caller())  # type: ignore[misc]  # only compiled in if it isn't None
        except Exception as error:  # noqa: BLE001  # as `guard` does, without its two extra calls
            self._failures.note(self._observation.what, error)

    def returned(self, result: Any) -> Any:
        """Report the result of the call, and pass it on unchanged."""
        try:
            self._observation.returned(_caller(), result)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001
            self._failures.note(self._observation.what, error)
        return result


def _caller() -> FrameType:
    return sys._getframe(2)


@never_pickled
class _IsCompiling(NamedTuple):
    """How the new code asks whether torch is compiling."""

    torch: str
    """The name of torch in the function; if that is TORCH_ALIAS, the new code imports it under this name."""
    path: tuple[str, ...]

    def expression(self) -> ast.Call:
        """The call of `is_compiling`, which Dynamo replaces by its value."""
        callee: ast.expr = ast.Name(self.torch, ast.Load())
        for name in self.path:
            callee = ast.Attribute(callee, name, ast.Load())
        return ast.Call(callee, [], [])


def _compiled(
    source: str, original: CodeType, observation: Observation, observer: _CallObserver, compiling: _IsCompiling
) -> CodeType:
    """The function's code with calls of the observer inserted.

    Args:
        source: the function's source, including its decorators.
        original: its code.
        observation: tells which of the observer's methods are to be called.
        observer: becomes a constant of the new code.
        compiling: how the new code asks whether torch is compiling.
    """
    # Indented as in the file, so that tracebacks underline the right columns.
    is_indented = source[:1].isspace()
    tree = ast.parse(f"if True:\n{source}" if is_indented else source)
    holder = tree.body[0]
    function = holder.body[0] if is_indented and isinstance(holder, ast.If) else holder
    if not isinstance(function, FUNCTIONS):
        raise ValueError("it is not a plain function")
    function.decorator_list = []
    body = function.body
    if observation.returned is not None:
        body = [_ReturnRewriter(compiling).visit(statement) for statement in body]
        end = _on_the_line_of(_last_statement_of(function), ast.Return(None))
        body.append(_ReturnRewriter(compiling).visit(end))
    start: list[ast.stmt] = []
    if compiling.torch == TORCH_ALIAS:
        start.append(ast.Import([ast.alias("torch", TORCH_ALIAS)]))
    if observation.started is not None:
        call = ast.Expr(_call("started"))
        start.append(ast.If(ast.UnaryOp(ast.Not(), compiling.expression()), [call], []))
    documented = ast.get_docstring(function) is not None
    # On the line of the first statement: a coverage tool then sees no line run that wouldn't run anyway.
    first = function.body[documented] if len(function.body) > documented else function
    for statement in start:
        _on_the_line_of(first, statement)
    function.body = [*body[:documented], *start, *body[documented:]]
    tree.body = [_closure(original.co_freevars, function)]
    ast.fix_missing_locations(tree)
    ast.increment_lineno(tree, original.co_firstlineno - 1 - is_indented)
    # The compiled module is never run: only the code object is taken from it; annotations and defaults stay the function's own.
    module = compile(tree, original.co_filename, "exec", flags=original.co_flags & FUTURE_FLAGS, dont_inherit=True)
    code = _code_within(_code_within(module, CLOSURE_NAME), original.co_name)
    kept: dict[str, Any] = {name: getattr(original, name) for name in ("co_qualname",) if hasattr(original, name)}
    constants = tuple(observer if type(value) is str and value == PLACEHOLDER else value for value in code.co_consts)
    return code.replace(
        co_consts=constants, co_firstlineno=original.co_firstlineno, co_flags=code.co_flags & ~inspect.CO_NESTED, **kept
    )


def _closure(names: Sequence[str], function: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.FunctionDef:
    """An enclosing function that defines these names, so that they are free variables of `function`, like `__class__`."""
    none = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    variables: list[ast.stmt] = [ast.Assign([ast.Name(name, ast.Store())], ast.Constant(None)) for name in names]
    if function.name not in names:  # a method that calls a global function of its own name means that one
        variables.append(ast.Global([function.name]))
    closure = ast.parse(f"def {CLOSURE_NAME}(): pass").body[0]
    assert isinstance(closure, ast.FunctionDef)
    closure.args, closure.body = none, [*variables, function]
    return closure


def _code_within(code: CodeType, name: str) -> CodeType:
    return next(inner for inner in code.co_consts if isinstance(inner, CodeType) and inner.co_name == name)


def _is_the_same_function(original: CodeType, new: CodeType) -> bool:
    """Whether the source on disk is what the code was compiled from, and doesn't depend on its class (`self.__private`)."""
    equal = ("co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_cellvars", "co_freevars", "co_name")
    arguments = original.co_argcount + original.co_kwonlyargcount
    return (
        all(getattr(original, attribute) == getattr(new, attribute) for attribute in equal)
        and original.co_flags & ~inspect.CO_NESTED == new.co_flags
        and original.co_varnames[:arguments] == new.co_varnames[:arguments]
        and {*original.co_varnames, TORCH_ALIAS} >= {*new.co_varnames} >= {*original.co_varnames}
        and _names_in(original) <= _names_in(new)
    )


def _names_in(code: CodeType) -> set[str]:
    inner_codes = (inner for inner in code.co_consts if isinstance(inner, CodeType))
    return {*code.co_names, *(name for inner in inner_codes for name in _names_in(inner))}


def _on_the_line_of(existing: ast.stmt, inserted: Statement) -> Statement:
    """`inserted`, with all its new nodes positioned on the first line of `existing`, so that no other line appears to run."""
    for node in ast.walk(inserted):
        if isinstance(node, (ast.stmt, ast.expr, ast.alias)) and not hasattr(node, "lineno"):
            node.lineno = node.end_lineno = existing.lineno
            node.col_offset = node.end_col_offset = existing.col_offset
    return inserted


def _last_statement_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.stmt:
    """The innermost statement at the function's end, after which Python adds its own `return None`."""
    last: ast.stmt = function.body[-1]
    while inner := getattr(last, "finalbody", None) or getattr(last, "orelse", None) or getattr(last, "body", None):
        last = inner[-1]
    return last


@never_pickled
class _ReturnRewriter(ast.NodeTransformer):
    """Makes `return x if torch.compiler.is_compiling() else observer.returned(x)` of `return x`; not in nested functions."""

    def __init__(self, compiling: _IsCompiling) -> None:
        self._compiling = compiling

    def visit_Return(self, node: ast.Return) -> ast.Return:
        """Rewrite one return statement; called by `ast.NodeTransformer`."""
        result = node.value if node.value is not None else ast.Constant(None)
        value = ast.IfExp(self._compiling.expression(), result, _call("returned", copy.deepcopy(result)))
        return _on_the_line_of(node, ast.Return(value))

    def _leave(self, node: Any) -> Any:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = _leave  # noqa: N815


def _call(method: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(ast.Constant(PLACEHOLDER), method, ast.Load()), list(arguments), [])
