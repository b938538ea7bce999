"""Model files as the catalogue knows them once their headers were read."""

from __future__ import annotations

import zlib

from gpumodels_tui.catalogue.facts import FileFacts
from gpumodels_tui.catalogue.index import KnownFile
from gpumodels_tui.catalogue.tree import Stamp
from gpumodels_tui.headers.formats import suffix_of
from gpumodels_tui.headers.stored_tensors import packed_shapes


def a_known_file(
    path: str,
    *shapes: tuple[int, ...],
    modified_ns: int = 1,
    aliases: tuple[str, ...] = (),
    shards: tuple[str, ...] = (),
) -> KnownFile:
    """A file of float32 tensors of these shapes; without any, one whose values can't be read."""
    packed = packed_shapes(("float32", shape) for shape in shapes)
    facts = FileFacts(path, 100, modified_ns, "safetensors", aliases=aliases, shapes=packed, shards=shards)
    return KnownFile(facts, Stamp(1, zlib.crc32(path.encode()), 100, modified_ns, modified_ns), suffix_of(path))
