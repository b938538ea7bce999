"""The part of the `--json` document that is compared. A file may be anybody's: all of it is checked."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta, Struct

from gpumodels_shared.safe_text import safe_text

SCHEMA: Final = 1
MOST_BYTES: Final = 64 * 1024**2
"""Of a document; those of ten thousand models are smaller."""

Bytes: TypeAlias = Annotated[int, Meta(ge=0, lt=2**62)]


class DocumentError(ValueError):
    """It is no document of `--json`, or can't be used; the text says why in one line."""


class Gpu(Struct, frozen=True):
    uuid: str | None = None
    index: int | None = None
    name: str | None = None
    used_bytes: Bytes | None = None


class DeviceMemory(Struct, frozen=True):
    device: str
    uuid: str | None = None
    allocated_bytes: Bytes | None = None
    reserved_bytes: Bytes | None = None
    gradients_bytes: Bytes | None = None
    optimizer_bytes: Bytes | None = None
    cache_bytes: Bytes | None = None
    other_bytes: Bytes | None = None
    outside_torch_bytes: Bytes | None = None


class Model(Struct, frozen=True):
    id: str
    name: str
    kind: str = "model"
    class_name: str | None = msgspec.field(name="class", default=None)
    bytes_by_device: dict[str, Bytes] | None = None
    offloaded_bytes: Bytes | None = None
    parameters: int | None = None
    layers: int | None = None
    files: tuple[str, ...] = ()


class Job(Struct, frozen=True):
    rank: int | None = None


class Process(Struct, frozen=True):
    pid: int
    label: str | None = None
    user: str | None = None
    state: str | None = None
    started_at: str | None = None
    job: Job | None = None
    devices: tuple[DeviceMemory, ...] = ()
    models: tuple[Model, ...] = ()


class Document(Struct, frozen=True):
    schema: int
    processes: tuple[Process, ...]
    taken_at: str | None = None
    host: str | None = None
    gpus: tuple[Gpu, ...] = ()


class _Version(Struct):
    schema: int


def document_in(text: bytes) -> Document:
    """The document in a file's text, on one line or on many.

    Raises:
        DocumentError: it is none.
    """
    if not text.strip():
        raise DocumentError("is empty")
    try:
        version = msgspec.json.decode(text, type=_Version).schema
        if version > SCHEMA:
            raise DocumentError("needs a newer gpumodels-tui")
        if version < SCHEMA:
            raise DocumentError("is no document of gpumodels-tui --json")
        return msgspec.json.decode(text, type=Document)
    except msgspec.ValidationError as error:
        raise DocumentError(f"is no document of gpumodels-tui --json: {safe_text(str(error), 120)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if "truncated" in str(error):
            raise DocumentError("its end is missing: it was cut while it was written or copied") from error
        raise DocumentError(f"is no document of gpumodels-tui --json: {safe_text(str(error), 120)}") from error
