"""The files by which a viewer asks a sidecar something, and by which it is answered: beside the snapshot file.

`ask-<name of the snapshot file>-<nonce>.json` is created by the viewer, as the directory's owner or root; `answer-…` of the same
name comes from the sidecar, which removes the question. A question changes nothing in the process; `GPUMODELS_ASK=0` there turns
them off.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ASK_SCHEMA: Final = 1
MAX_ASK_BYTES: Final = 4096
MAX_ANSWER_BYTES: Final = 256 * 1024
WHY: Final = "why"
"""The question who holds a model; its argument is the model's id."""
OTHER: Final = "other"
"""The question what is in memory beside the models; without an argument."""
_ARGUMENT_LENGTHS: Final = {WHY: range(1, 201), OTHER: range(1)}
_NAME: Final = re.compile(r"(ask|answer)-([0-9]{1,10}-[0-9]{1,20}-[0-9a-f]{8})-([0-9a-f]{16})\.json")
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class AskError(Exception):
    """It is no question, or no answer; the text says why."""


def ask_name(snapshot: str, nonce: str) -> str:
    """The name of a question to the sidecar that writes this file."""
    return f"ask-{snapshot.partition('.')[0]}-{nonce}.json"


def answer_name(ask: str) -> str:
    """The name of the answer to a question."""
    return "answer-" + ask.removeprefix("ask-")


def new_nonce() -> str:
    """What tells a question from others."""
    return os.urandom(8).hex()


def is_ask_for(name: str, snapshot: str) -> bool:
    """Whether this is the name of a question to the sidecar that writes this snapshot file."""
    found = _NAME.fullmatch(name)
    return found is not None and found[1] == "ask" and found[2] == snapshot.partition(".")[0]


def is_answer_of(name: str, snapshot: str) -> bool:
    """Whether this is the name of an answer by the sidecar that writes this snapshot file."""
    found = _NAME.fullmatch(name)
    return found is not None and found[1] == "answer" and found[2] == snapshot.partition(".")[0]


def encode_ask(question: str, model: str = "") -> bytes:
    """A question, as JSON."""
    return json.dumps({"schema": ASK_SCHEMA, "ask": question, "model": model}).encode("ascii")


def decode_ask(content: bytes) -> tuple[str, str]:
    """The question, and the model's id; empty for `OTHER`.

    Raises:
        AskError: it is no question.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AskError("no JSON") from error
    if type(document) is not dict or document.get("schema") != ASK_SCHEMA:
        raise AskError("not a question, or of another version")
    question, model = document.get("ask"), document.get("model")
    if type(question) is not str or type(model) is not str or len(model) not in _ARGUMENT_LENGTHS.get(question, ()):
        raise AskError("not a question that is known")
    return question, model


def read_file(directory: Path, name: str, owners: set[int], limit: int) -> bytes:
    """The content of a question or an answer.

    Args:
        directory: of snapshot files.
        name: the file's.
        owners: the uids that may own the file.
        limit: bytes; a longer file is refused.

    Raises:
        AskError: it may not be trusted.
        OSError: it can't be read.
    """
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        _check(status, owners)
        descriptor = os.open(name, _FLAGS, dir_fd=parent)
    finally:
        os.close(parent)
    with open(descriptor, "rb") as file:
        _check(os.fstat(descriptor), owners)
        content = file.read(limit + 1)
    if len(content) > limit:
        raise AskError(f"longer than {limit} bytes")
    return content


def decode_answer(content: bytes) -> Mapping[str, Any]:
    """An answer.

    Raises:
        AskError: it is none.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AskError("no JSON") from error
    if type(document) is not dict or document.get("schema") != ASK_SCHEMA or type(document.get("state")) is not str:
        raise AskError("not an answer, or of another version")
    return document


def _check(status: os.stat_result, owners: set[int]) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise AskError("not a regular file")
    if status.st_nlink != 1:
        raise AskError("it has a second name")
    if status.st_uid not in owners:
        raise AskError(f"it belongs to uid {status.st_uid}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise AskError("others may write to it")
