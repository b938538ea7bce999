"""Reads `config.json`, `adapter_config.json` and the configs of quantizers. Runs in the worker process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from gpumodels_shared.quantization_configs import of_config
from gpumodels_tui.headers.headers import CONFIG, FileHeader, UnreadableError
from gpumodels_tui.headers.metadata import travelling_metadata

MAX_BYTES: Final = 2 * 1024 * 1024
MAX_WORDS: Final = 16


def recognises(beginning: bytes, size_bytes: int) -> bool:
    """False: JSON files are recognised by name only."""
    return False


def read(path: str, beginning: bytes, size_bytes: int) -> FileHeader:
    """The top level as metadata, such as `model_type` and `r`; of nested values only how the weights are quantized.

    The name under which the file lies beside a model isn't part of the keys: in a Hugging Face cache the file itself is called
    by a hash, and one file may have several names.

    Raises:
        UnreadableError: the file is not a JSON object, or incomplete.
    """
    config = json_object(path, size_bytes, MAX_BYTES)
    return FileHeader(CONFIG, travelling_metadata(dict(_top_level(config))), precision=of_config(config))


def json_object(path: str, size_bytes: int, max_bytes: int) -> dict[str, object]:
    """Parse the file as one JSON object.

    Raises:
        UnreadableError: it is something else, or too large.
    """
    if size_bytes > max_bytes:
        raise UnreadableError(f"too large to read ({size_bytes} bytes)")
    try:
        found: object = msgspec.json.decode(Path(path).read_bytes())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError("invalid JSON", unfinished=True) from error
    if not isinstance(found, dict):
        raise UnreadableError("not a JSON object")
    return found


def _top_level(config: Mapping[str, object]) -> list[tuple[str, str]]:
    entries = []
    for key, value in config.items():
        text = _text(value)
        if text is not None:
            entries.append((key, text))
    return entries


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list) and value and len(value) <= MAX_WORDS and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return None
