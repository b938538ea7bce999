"""Asks the readers of model files' headers as their worker does, in this process."""

from __future__ import annotations

import os
from pathlib import Path

from gpumodels_tui.headers import config_header, gguf_header, pickled_header, safetensors_header, shard_index
from gpumodels_tui.headers.header_worker import HeaderReader, Worker
from gpumodels_tui.headers.headers import FileHeader, Reply, Request

MODULES = {
    ".safetensors": safetensors_header,
    ".gguf": gguf_header,
    ".ckpt": pickled_header,
    "config.json": config_header,
    ".safetensors.index.json": shard_index,
}
READING = {
    suffix: HeaderReader(module.recognises, module.read, getattr(module, "read_values", None))
    for suffix, module in MODULES.items()
}


def reply_about(path: Path, suffix: str | None) -> Reply:
    """What is answered of this file, read as the suffix says; without one, as its beginning says."""
    return Worker(READING).answer(Request(os.fsencode(path), suffix))


def header_of(path: Path, suffix: str | None) -> FileHeader:
    """The same of a file that can be read."""
    reply = reply_about(path, suffix)
    assert reply.header is not None, reply.reason
    return reply.header
