"""Asks a sidecar who holds a model, by a file beside its snapshot, and waits for the answer. Nothing is asked unprompted."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gpumodels_shared.asks import (
    MAX_ANSWER_BYTES,
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

PATIENCE_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.05


class Chain(msgspec.Struct, frozen=True):
    """One way in which the model is held."""

    text: str
    file: str = ""
    """If it begins with a global variable: its module's file, as the process calls it."""
    variable: str = ""
    """The variable's name."""


class Found(msgspec.Struct, frozen=True):
    """What a search found out; the fields are those of the sidecar's `Findings`."""

    chains: tuple[Chain, ...] = ()
    is_garbage: bool = False
    by_c_code: tuple[str, ...] = ()
    hidden_objects: int = 0
    is_complete: bool = True
    visited: int = 0
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
    directory = file.parent
    name = ask_name(file.name, new_nonce())
    try:
        owner = os.stat(directory).st_uid
        write_new(directory, name, encode_ask(WHY, model_id), {os.geteuid(), owner} if os.geteuid() == 0 else {os.geteuid()})
    except OSError as error:
        raise NoAnswerError(f"can't ask: {error.strerror or error}; only its owner and root may ask a process") from error
    try:
        return _answer(directory, answer_name(name), {owner}, searching, patience_seconds)
    finally:
        for left in (name, answer_name(name)):
            with contextlib.suppress(OSError):
                (directory / left).unlink()


def _answer(directory: Path, name: str, owners: set[int], searching: Callable[[float], None], patience_seconds: float) -> Found:
    until = time.monotonic() + patience_seconds
    is_told = False
    while time.monotonic() < until:
        try:
            answer = decode_answer(read_file(directory, name, owners, MAX_ANSWER_BYTES))
            if answer["state"] == "unknown":
                raise NoAnswerError("the model isn't there any more")
            if answer["state"] == "done":
                return msgspec.convert(answer.get("found"), Found)
            expected = answer.get("expected_hold_seconds")
            if not is_told and isinstance(expected, float):
                is_told = True
                searching(expected)
        except FileNotFoundError:
            pass
        except (AskError, OSError, msgspec.ValidationError) as error:
            raise NoAnswerError(f"the answer can't be read: {error}") from error
        time.sleep(POLL_SECONDS)
    raise NoAnswerError(f"no answer in {patience_seconds:g} s: the process is stopped, busy in C code, or has GPUMODELS_ASK=0")
