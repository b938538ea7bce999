"""Asks a sidecar who holds a model, or what is in memory beside models, by a file beside its snapshot, and waits for the answer.

Nothing is asked unprompted.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from gpumodels_shared.asks import (
    MAX_ANSWER_BYTES,
    OTHER,
    WHY,
    AskError,
    answer_name,
    ask_name,
    decode_answer,
    encode_ask,
    new_nonce,
    read_file,
)
from gpumodels_shared.places import write_new
from gpumodels_shared.records import Record

PATIENCE_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.05

_Kind = TypeVar("_Kind")


class Chain(Record):
    """One way in which the model is held."""

    text: str
    file: str = ""
    """If it begins with a global variable: its module's file, as the process calls it."""
    variable: str = ""
    """The variable's name."""


class Found(Record):
    """What a search found out; the fields are those of the sidecar's `Findings`."""

    chains: tuple[Chain, ...] = ()
    is_garbage: bool = False
    by_c_code: tuple[str, ...] = ()
    hidden_objects: int = 0
    is_complete: bool = True
    visited: int = 0
    longest_hold_seconds: float = 0.0
    seconds: float = 0.0


class TensorGroup(Record):
    """Tensors of one dtype, kind and class of size that no model holds."""

    dtype: str
    at_least_bytes: int
    """Where the class of size begins."""
    kind: str
    """As of the sidecar's `LooseTensor`."""
    count: int
    size_bytes: int


class LargeTensor(Record):
    """One of the largest tensors that no model holds."""

    dtype: str
    size_bytes: int
    shape: tuple[int, ...] = ()
    kind: str = "tensor"
    held_by: str | None = None
    made_at: str | None = None
    """`load (app.py:88)`, where torch's own history is on."""


class LargeBlock(Record):
    """Memory in use in which there is no tensor of Python's."""

    size_bytes: int
    made_at: str | None = None


class UnseenBlocks(Record):
    """What is in use without a tensor of Python's."""

    blocks: int = 0
    blocks_bytes: int = 0
    workspaces: int = 0
    """Blocks that have the size of a cuBLAS workspace."""
    workspaces_bytes: int = 0
    largest: tuple[LargeBlock, ...] = ()


class AllocatorCache(Record):
    """What a device's allocator keeps; the fields are those of the sidecar's `AllocatorState`."""

    is_exact: bool = True
    returnable_bytes: int = 0
    split_bytes: int = 0
    waiting_bytes: int = 0
    pools: int = 0
    pools_reserved_bytes: int = 0
    pools_allocated_bytes: int = 0


class OtherOnDevice(Record):
    """What is on one device beside models."""

    device: str
    tensors: int = 0
    tensors_bytes: int = 0
    """Of tensors that no model holds."""
    unseen_bytes: int | None = None
    """Of other memory in which there is no tensor of Python's; None if the device has no counters."""
    groups: tuple[TensorGroup, ...] = ()
    largest: tuple[LargeTensor, ...] = ()
    uuid: str | None = None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    models_bytes: int | None = None
    gradients_bytes: int | None = None
    optimizer_bytes: int | None = None
    cache_bytes: int | None = None
    other_bytes: int | None = None
    allocator: AllocatorCache | None = None
    unseen: UnseenBlocks | None = None


class FoundOther(Record):
    """What there is in memory beside models, by device."""

    devices: tuple[OtherOnDevice, ...] = ()
    tensors: int = 0
    """All tensors that there are, those of models included."""
    hidden_objects: int = 0
    is_complete: bool = True
    longest_hold_seconds: float = 0.0
    seconds: float = 0.0


class NoAnswerError(Exception):
    """There is no answer; the text says why, and what to do."""


def ask_why(
    file: Path,
    model_id: str,
    searching: Callable[[float], None] = lambda _: None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Found:
    """Ask who holds a model.

    Args:
        file: the snapshot file of its process.
        model_id: the model's id there.
        searching: is told for how long the search will hold the process's interpreter at once, in seconds, about.
        patience_seconds: how long to wait.

    Raises:
        NoAnswerError: the model is gone, the sidecar doesn't answer, or may not be asked.
    """
    found = _asked(file, encode_ask(WHY, model_id), "the model isn't there any more", searching, patience_seconds)
    return _converted(found, Found)


def ask_other(
    file: Path,
    searching: Callable[[float], None] = lambda _: None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> FoundOther:
    """Ask what is in a process's memory beside models, gradients, optimizer states and caches.

    Args:
        file: the snapshot file of the process.
        searching: is told for how long the search will hold the process's interpreter at once, in seconds, about.
        patience_seconds: how long to wait.

    Raises:
        NoAnswerError: the sidecar doesn't answer, or may not be asked.
    """
    return _converted(_asked(file, encode_ask(OTHER), "torch isn't imported there yet", searching, patience_seconds), FoundOther)


def _converted(found: Any, kind: type[_Kind]) -> _Kind:
    import msgspec  # large, and only needed here

    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise NoAnswerError(f"the answer can't be read: {error}") from error


def _asked(file: Path, question: bytes, unknown: str, searching: Callable[[float], None], patience_seconds: float) -> Any:
    """Ask; returns what was found as it is.

    Raises:
        NoAnswerError: there is no answer; where the sidecar knows none, for the reason `unknown`.
    """
    directory = file.parent
    name = ask_name(file.name, new_nonce())
    try:
        owner = os.stat(directory).st_uid
        write_new(directory, name, question, {os.geteuid(), owner} if os.geteuid() == 0 else {os.geteuid()})
    except OSError as error:
        raise NoAnswerError(f"can't ask: {error.strerror or error}; only its owner and root may ask a process") from error
    try:
        return _answer(directory, answer_name(name), {owner}, unknown, searching, patience_seconds)
    finally:
        for left in (name, answer_name(name)):
            with contextlib.suppress(OSError):
                (directory / left).unlink()


def _answer(
    directory: Path,
    name: str,
    owners: set[int],
    unknown: str,
    searching: Callable[[float], None],
    patience_seconds: float,
) -> Any:
    until = time.monotonic() + patience_seconds
    is_told = False
    while time.monotonic() < until:
        try:
            answer = decode_answer(read_file(directory, name, owners, MAX_ANSWER_BYTES))
            if answer["state"] == "unknown":
                raise NoAnswerError(unknown)
            if answer["state"] == "done":
                return answer.get("found")
            expected = answer.get("expected_hold_seconds")
            if not is_told and isinstance(expected, float):
                is_told = True
                searching(expected)
        except FileNotFoundError:
            pass
        except (AskError, OSError) as error:
            raise NoAnswerError(f"the answer can't be read: {error}") from error
        time.sleep(POLL_SECONDS)
    raise NoAnswerError(f"no answer in {patience_seconds:g} s: the process is stopped, busy in C code, or has GPUMODELS_ASK=0")
