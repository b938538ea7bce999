"""Reads records of failed allocations, which other processes wrote: whatever they hold, the result is a record or a reason."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from gpumodels_shared.oom_records import RECORD_SCHEMA, read_record, record_files
from gpumodels_shared.schema import OutOfMemory, ProcessInfo
from gpumodels_tui.sources.feed import default_directories


class Record(msgspec.Struct, frozen=True):
    """A failed allocation, and the process in which it failed."""

    path: Path
    process: ProcessInfo
    failure: OutOfMemory


class RecordError(Exception):
    """It isn't a record, or may not be read; the text says why."""


def records_in(directories: Sequence[Path] | None) -> tuple[list[Path], list[str]]:
    """The records in these directories, the oldest first, and what couldn't be read.

    Args:
        directories: of sidecars' files; None for the default ones.
    """
    owners = None if os.geteuid() == 0 else {os.geteuid()}
    found: list[Path] = []
    problems: list[str] = []
    for directory in default_directories() if directories is None else directories:
        try:
            found += record_files(directory, owners, accept_shared=True)[0]
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(error.strerror or str(error))
    return sorted(found, key=lambda path: path.name), problems


def read(path: Path) -> Record:
    """The record in a file.

    Raises:
        RecordError: it isn't one.
    """
    try:
        document = read_record(path, os.stat(path.parent).st_uid)
    except OSError as error:
        raise RecordError(error.strerror or str(error)) from error
    except ValueError as error:
        raise RecordError(f"not a record of a failed allocation: {str(error)[:200]}") from error
    return _record(path, document)


def _record(path: Path, document: Any) -> Record:
    if not isinstance(document, dict) or "out_of_memory" not in document:
        raise RecordError("not a record of a failed allocation")
    if document.get("schema") != RECORD_SCHEMA:
        raise RecordError(f"schema {str(document.get('schema'))[:20]}: needs a newer gpumodels-tui")
    try:
        process = msgspec.convert(document.get("process"), ProcessInfo)
        failure = msgspec.convert(document["out_of_memory"], OutOfMemory)
    except msgspec.ValidationError as error:
        raise RecordError(f"not a record of a failed allocation: {str(error)[:200]}") from error
    return Record(path, process, failure)
