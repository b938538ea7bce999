"""The files that keep what was in memory when an allocation failed: `oom-<time>-<pid>.json` beside the snapshot files.

They survive the process, and the cleaning of its snapshot file. The sidecar writes them, `gpumodels-tui oom` reads them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any, Final

from gpumodels_shared.places import open_directory, open_file, write_new
from gpumodels_shared.schema import OutOfMemory, ProcessInfo

RECORD_PREFIX: Final = "oom-"
RECORD_SUFFIX: Final = ".json"
MAX_RECORDS: Final = 64
"""The newest that are kept in a directory."""
MAX_RECORD_BYTES: Final = 256 * 1024
RECORD_SCHEMA: Final = 1


def record_name(at_ns: int, pid: int) -> str:
    """`oom-20261129T031500.123Z-4711.json`: sorted by name is sorted by time."""
    seconds, milliseconds = divmod(at_ns // 1_000_000, 1000)
    at = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
    return f"{RECORD_PREFIX}{at}.{milliseconds:03}Z-{pid}{RECORD_SUFFIX}"


def is_record_name(name: str) -> bool:
    """Whether a file of this name in a snapshot directory is a record."""
    return name.startswith(RECORD_PREFIX) and name.endswith(RECORD_SUFFIX)


def encode_record(process: ProcessInfo, failure: OutOfMemory) -> bytes:
    """The record as one JSON document, of ASCII alone."""
    document = {
        "schema": RECORD_SCHEMA,
        "process": {key: value for key, value in _as_dict(process).items() if value is not None},
        "out_of_memory": {key: value for key, value in _as_dict(failure).items() if value is not None and key != "record"},
    }
    return json.dumps(document, indent=1, allow_nan=False).encode("ascii") + b"\n"


def write_record(directory: Path, name: str, content: bytes, group: int | None = None) -> Path:
    """Write a record, in place of the one of this name, and remove the oldest ones where there are more than MAX_RECORDS.

    Args:
        directory: of snapshot files, ours.
        name: the record's.
        content: all of it.
        group: the gid that may read it; by default only its owner may.

    Raises:
        OSError: it couldn't be written; then nothing is left of it.
    """
    write_new(directory, name, content, {os.geteuid()}, group)
    for old in record_files(directory, {os.geteuid()})[0][:-MAX_RECORDS]:
        with contextlib.suppress(OSError):
            old.unlink()
    return directory / name


def record_files(directory: Path, owners: set[int] | None, *, accept_shared: bool = False) -> tuple[list[Path], int]:
    """The records in a directory, oldest first, and the uid that owns them; arguments are those of `places.open_directory`.

    Raises:
        OSError: the directory may not be trusted, or can't be read.
    """
    descriptor = open_directory(directory, owners, accept_shared=accept_shared)
    try:
        names = sorted(filter(is_record_name, os.listdir(descriptor)))
        return [directory / name for name in names], os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)


def read_record(path: Path, owner: int) -> Any:
    """The JSON value in a record, whatever it is.

    Raises:
        OSError: it may not be trusted, or can't be read.
        ValueError: it is too large, or no JSON.
    """
    descriptor = open_file(path, owner)
    with open(descriptor, "rb") as file:
        content = file.read(MAX_RECORD_BYTES + 1)
    if len(content) > MAX_RECORD_BYTES:
        raise ValueError(f"longer than {MAX_RECORD_BYTES} bytes")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _as_dict(value: ProcessInfo | OutOfMemory) -> dict[str, Any]:
    return {
        one.name: dataclasses.asdict(found)
        if dataclasses.is_dataclass(found := getattr(value, one.name)) and not isinstance(found, type)
        else found
        for one in dataclasses.fields(value)
    }
