"""The process that reads model files' headers: `python -m gpumodels_tui.catalogue.header_worker`, spoken to through its pipes.

Whatever a file does to its reader, it does it here: at low priority, with a limit on memory, and replaceable. A failure that
nobody foresaw ends the process: whoever started it knows which file it was. It also ends with its stdin.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from gpumodels_shared.fingerprint import Match, compare
from gpumodels_shared.schema import Fingerprint
from gpumodels_tui.catalogue.formats import READERS
from gpumodels_tui.catalogue.headers import FRAME, FileHeader, Reply, Request, UnreadableError, frame
from gpumodels_tui.catalogue.stored_tensors import StoredTensors

MEMORY_LIMIT_BYTES: Final = 280 * 1024 * 1024
"""Of the worker's own memory; mapped files don't count, so large models open all the same."""

BEGINNING_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class HeaderReader:
    """One format's reader, as its module gives it."""

    recognises: Callable[[bytes, int], bool]
    read: Callable[[str, bytes, int], FileHeader]
    tensors: Callable[[str, int, bytes, int], StoredTensors] | None = None
    """Where values can be read."""


def main() -> int:
    """Answer requests until stdin closes."""
    replies = _take_stdout()
    _be_modest()
    readers = {suffix: _load(name) for suffix, name in READERS.items()}
    requests = sys.stdin.buffer
    _write(replies, frame(Reply()))
    while len(head := requests.read(FRAME.size)) == FRAME.size:
        request = msgspec.msgpack.decode(requests.read(FRAME.unpack(head)[0]), type=Request)
        try:
            _write(replies, frame(answer(request, readers)))
        except BrokenPipeError:
            break
    return 0


def answer(request: Request, readers: dict[str, HeaderReader]) -> Reply:
    """What was asked for, or why there is none."""
    try:
        if request.fingerprint is not None:
            paths = [os.fsdecode(path) for path in (request.path, *request.others)]
            return Reply(match=_compare(request.fingerprint, paths, request.suffix, readers))
        return Reply(header=_read(os.fsdecode(request.path), request.suffix, readers))
    except UnreadableError as error:
        return Reply(reason=error.reason, unfinished=error.unfinished)
    except OSError as error:
        return Reply(reason=(error.strerror or type(error).__name__).lower())
    except (MemoryError, RecursionError) as error:
        return Reply(reason=f"its header takes too much memory ({type(error).__name__})")


def _read(path: str, suffix: str | None, readers: dict[str, HeaderReader]) -> FileHeader | None:
    with _opened(path) as (_, beginning, size_bytes):
        reader = _reader_for(suffix, beginning, size_bytes, readers)
    return None if reader is None else reader.read(path, beginning, size_bytes)


def _compare(fingerprint: Fingerprint, paths: list[str], suffix: str | None, readers: dict[str, HeaderReader]) -> Match | None:
    """How much of the fingerprint agrees with these files together; None where their values can't be read."""
    together = StoredTensors()
    with contextlib.ExitStack() as opened:
        for path in paths:
            descriptor, beginning, size_bytes = opened.enter_context(_opened(path))
            reader = _reader_for(suffix, beginning, size_bytes, readers)
            if reader is None or reader.tensors is None:
                return None
            for key, tensor in reader.tensors(path, descriptor, beginning, size_bytes).stored.items():
                together.add(key, tensor)
        return compare(fingerprint, together)


def _reader_for(suffix: str | None, beginning: bytes, size_bytes: int, readers: dict[str, HeaderReader]) -> HeaderReader | None:
    if suffix is not None:
        return readers[suffix]
    return next((reader for reader in readers.values() if reader.recognises(beginning, size_bytes)), None)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[int, bytes, int]]:
    """A descriptor, the file's first bytes and its size. What is not a regular file isn't even opened: opening a device can do
    things."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UnreadableError("not a regular file")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("not a regular file")
        yield descriptor, os.pread(descriptor, BEGINNING_BYTES, 0), status.st_size
    finally:
        os.close(descriptor)


def _load(name: str) -> HeaderReader:
    module = importlib.import_module(name)
    return HeaderReader(
        cast("Callable[[bytes, int], bool]", module.recognises),
        cast("Callable[[str, bytes, int], FileHeader]", module.read),
        cast("Callable[[str, int, bytes, int], StoredTensors] | None", getattr(module, "tensors", None)),
    )


def _take_stdout() -> int:
    """A descriptor for replies alone: what a library prints goes to stderr."""
    replies = os.dup(1)
    os.dup2(2, 1)
    return replies


def _be_modest() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(10)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    sys.exit(main())
