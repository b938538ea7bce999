"""In which line of its module's source a global variable is assigned, where that is certain.

It is if the file is as it was when the process started, and one statement alone can have put the model there. The source is only
read and cut into tokens, never compiled or run: it may be another user's, and a parser can be brought down by what it is given.
"""

from __future__ import annotations

import io
import os
import stat
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from tokenize import TokenInfo
from typing import Final

from gpumodels_shared.records import replace
from gpumodels_tui.sources.asking import Chain, Found
from gpumodels_tui.sources.feed import ProcessState

MAX_BYTES: Final = 256 * 1024
"""Cutting that into tokens takes about half a second."""
PROC: Final = Path("/proc")
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_LAYOUT: Final = frozenset({tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING})
_SCOPES: Final = frozenset({"def", "class"})
_BLOCKS: Final = frozenset({"if", "elif", "else", "while", "try", "finally", "except", "with", "for"})
_SOFT: Final = frozenset({"match", "case", "type"})
"""Statements begin with them only in newer versions of Python, and everywhere they may be variables."""
_OPENING: Final = frozenset("([{")
_CLOSING: Final = frozenset(")]}")


class _UncertainError(Exception):
    """The variable may be assigned in a way that can't be followed."""


def with_lines(found: Found, process: ProcessState) -> Found:
    """The same, with the line in the words of each chain that begins with a global variable, where it is certain."""
    snapshot = process.snapshot
    if snapshot is None or not process.is_local or not _sees_our_files(process.pid):
        return found
    started_at_ns = snapshot.process.started_at_ns
    return replace(found, chains=tuple(_with_line(chain, started_at_ns) for chain in found.chains))


def _with_line(chain: Chain, started_at_ns: int) -> Chain:
    if not chain.file or not chain.variable:
        return chain
    head, words, rest = chain.text.partition(f"({chain.file.rpartition('/')[2]})")
    source = source_unchanged_since(chain.file, started_at_ns) if words else None
    line = line_of_global(source, chain.variable) if source is not None else None
    return chain if line is None else replace(chain, text=f"{head}{words[:-1]}:{line}){rest}")


def _sees_our_files(pid: int, proc: Path = PROC) -> bool:
    """Whether a path means the same file to this process and to us: no other mounts, no other root."""
    if not (proc / "self/ns/mnt").exists():
        return not proc.is_dir()  # where there are no namespaces
    try:
        return all(os.path.samestat(os.stat(proc / "self" / one), os.stat(proc / str(pid) / one)) for one in ("ns/mnt", "root"))
    except OSError:
        return False


def source_unchanged_since(path: str, moment_ns: int) -> str | None:
    """The text of a source file; None if it isn't a regular one, is large, or was changed after that moment.

    Args:
        path: absolute.
        moment_ns: realtime nanoseconds.
    """
    if not path.startswith("/") or not path.endswith(".py"):
        return None
    try:
        with open(os.open(path, _FLAGS), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_mtime_ns > moment_ns or not 0 < status.st_size <= MAX_BYTES:
                return None
            return file.read(MAX_BYTES).decode("utf-8-sig")
    except (OSError, ValueError):
        return None


def line_of_global(source: str, name: str) -> int | None:
    """The line of the only statement that can have assigned an object to this global variable; None if it isn't one."""
    lines: list[int] = []
    try:
        for line, is_of_module in _logical_lines(source):
            if {"global", name} <= _words(line):
                return None  # a function may assign it
            if is_of_module:
                lines += _bindings(line, name)
    except (_UncertainError, tokenize.TokenError, SyntaxError, ValueError):
        return None
    return lines[0] if len(lines) == 1 else None


def _logical_lines(source: str) -> Iterator[tuple[list[TokenInfo], bool]]:
    """Each logical line's tokens, and whether it is run in the module's own namespace."""
    scopes = [True]
    line: list[TokenInfo] = []
    opens_scope = False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.ERRORTOKEN and token.string.strip():
            raise _UncertainError
        if token.type == tokenize.INDENT:
            scopes.append(scopes[-1] and not opens_scope)
        elif token.type == tokenize.DEDENT:
            scopes.pop()
        elif token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
            if line:
                opens_scope = _opens_scope(line)
                yield line, scopes[-1]
            line = []
        elif token.type not in _LAYOUT:
            line.append(token)


def _opens_scope(line: Sequence[TokenInfo]) -> bool:
    first = line[1:] if line[0].string == "async" else line
    return bool(first) and first[0].string in _SCOPES


def _words(tokens: Sequence[TokenInfo]) -> set[str]:
    return {token.string for token in tokens if token.type == tokenize.NAME}


def _bindings(line: Sequence[TokenInfo], name: str) -> Iterator[int]:
    """The lines in which the statements of one logical line assign to the name."""
    if name not in _words(line) and "*" not in {token.string for token in line}:
        return
    if _opens_scope(line):
        defined = line[2 if line[0].string == "async" else 1]
        if defined.string == name:
            yield defined.start[0]
        return
    statement: list[TokenInfo] = []
    for token, depth in _with_depths(line):
        if token.string == ";" and not depth:
            yield from _of_statement(statement, name)
            statement = []
        else:
            statement.append(token)
    yield from _of_statement(statement, name)


def _of_statement(statement: Sequence[TokenInfo], name: str) -> Iterator[int]:
    """The same of one statement, which is no definition of a function or class."""
    tokens = list(statement[1:] if statement and statement[0].string == "async" else statement)
    if not tokens:
        return
    first, following = tokens[0].string, tokens[1].string if len(tokens) > 1 else ""
    if first in _SOFT and following not in ("=", ".", "[", "(", ":", ",") and name in _words(tokens):
        raise _UncertainError
    if first in ("match", "case") and tokens[-1].string == ":":
        raise _UncertainError
    if first in ("import", "from"):
        if "*" in [token.string for token in tokens]:
            raise _UncertainError
        yield from (token.start[0] for token in tokens if token.string == name)
    elif first in _BLOCKS:
        end = next((at for at, (token, depth) in enumerate(_with_depths(tokens)) if token.string == ":" and not depth), None)
        if end is None or "lambda" in _words(tokens[:end]):
            raise _UncertainError
        yield from _of_header(tokens[:end], name)
        yield from _of_statement(tokens[end + 1 :], name)
    elif first != "del":
        yield from _of_assignment(tokens, name)


def _of_header(header: Sequence[TokenInfo], name: str) -> Iterator[int]:
    """By `for name in`, `as name`, `name :=`."""
    is_target = header[0].string == "for"
    for token, after in zip(header, [*header[1:], None], strict=True):
        if token.string in ("as", "in"):
            is_target = token.string == "as"
        elif token.string == name and (is_target or (after is not None and after.string == ":=")):
            yield token.start[0]


def _of_assignment(tokens: Sequence[TokenInfo], name: str) -> Iterator[int]:
    """By `name = …` and the like, and by `name := …` anywhere. What is assigned a constant isn't a model."""
    end = next((at for at, token in enumerate(tokens) if token.string == "lambda"), len(tokens))
    marks = [at for at, (token, depth) in enumerate(_with_depths(tokens[:end])) if not depth and token.string == "="]
    changes = [at for at, (token, depth) in enumerate(_with_depths(tokens[:end])) if not depth and _is_augmented(token)]
    is_constant = bool(marks) and [token.string for token in tokens[marks[-1] + 1 :]] == ["None"]
    targets = 0 if is_constant else max([*marks, *changes], default=0)
    annotated = next((at for at, (token, depth) in enumerate(_with_depths(tokens)) if token.string == ":" and not depth), targets)
    subscripts = 0
    opened: list[bool] = []
    for at, token in enumerate(tokens):
        before, after = tokens[at - 1] if at else None, tokens[at + 1] if at + 1 < len(tokens) else None
        if token.string in _OPENING:
            opened.append(before is not None and (before.type == tokenize.NAME or before.string in _CLOSING))
            subscripts += opened[-1]
        elif token.string in _CLOSING and opened:
            subscripts -= opened.pop()
        elif token.string == name and (before is None or before.string != "."):
            follows = after.string if after is not None else ""
            is_target = at < min(targets, annotated) and not subscripts and follows not in (".", "[", "(")
            if is_target or follows == ":=":
                yield token.start[0]


def _is_augmented(token: TokenInfo) -> bool:
    return token.type == tokenize.OP and token.string.endswith("=") and token.string not in ("=", "==", "!=", "<=", ">=", ":=")


def _with_depths(tokens: Sequence[TokenInfo]) -> Iterator[tuple[TokenInfo, int]]:
    """Each token, and how many brackets are open around it."""
    depth = 0
    for token in tokens:
        is_operator = token.type == tokenize.OP
        if is_operator and token.string in _CLOSING:
            depth -= 1
        yield token, depth
        if is_operator and token.string in _OPENING:
            depth += 1
