"""Reads values of tensors from safetensors files: the header once, then a few bytes at a tensor's offset.

Format: the header's length as 8 bytes little-endian, the header as JSON (dtype, shape, data_offsets by key), then the data.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gpumodels.provenance.files_read import stamp_of
from gpumodels.support.descriptors import OwnDescriptor
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.floats import ITEM_BYTES

MAX_HEADER_BYTES: Final = 32 * 1024 * 1024
ENTRIES_PER_STEP: Final = 100
READS_PER_STEP: Final = 32
MAX_KEPT_READS: Final = 10_000
_DECODER: Final = json.JSONDecoder()

DTYPES: Final = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "U8": "uint8",
    "I8": "int8",
}
"""The format's names for the dtypes that can be compared."""


@never_pickled
class SafetensorsValues:
    """A file, or the shards of a checkpoint. Headers and values that were read are cached; files stay open until `close`.

    Raises:
        OSError: a file can't be read.
        ValueError: a file isn't a safetensors file, or is damaged.
    """

    def __init__(self, paths: Sequence[str], pause: Callable[[], None]) -> None:
        self.tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.stamps = tuple(map(stamp_of, paths))
        """The files' stamps when they were opened: they differ once a file was changed."""
        self._paths = tuple(paths)
        self._extents: dict[str, tuple[int, int, int]] = {}
        """By key: the number of its file, its offset there and its length, in bytes."""
        self._pause = pause
        self._reads = 0
        self._cache: dict[tuple[str, int, int], bytes] = {}
        self._descriptors: dict[int, OwnDescriptor] = {}
        try:
            for number in range(len(paths)):
                self._read_header(number, pause)
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{', '.join(paths)}: not a valid safetensors header") from error
        finally:
            self.close()

    def read(self, key: str, start: int, count: int) -> bytes:
        """The raw bytes of up to `count` elements from element `start` on; empty for dtypes that aren't compared.

        Raises:
            OSError: the file can't be read any more.
        """
        request = (key, start, count)
        data = self._cache.get(request)
        if data is None:
            self._reads += 1
            if self._reads % READS_PER_STEP == 0:
                self._pause()
            data = self._read_from_file(key, start, count)
            if len(self._cache) < MAX_KEPT_READS:
                self._cache[request] = data
        return data

    def close(self) -> None:
        """Close the files; `read` opens them again."""
        while self._descriptors:
            self._descriptors.popitem()[1].close()

    def _read_from_file(self, key: str, start: int, count: int) -> bytes:
        dtype, shape = self.tensors[key]
        item = ITEM_BYTES.get(dtype)
        number, offset, length = self._extents[key]
        count = min(count, math.prod(shape) - start)
        if item is None or count <= 0 or (start + count) * item > length:
            return b""
        return self._descriptor(number).read(count * item, offset + start * item)

    def _descriptor(self, number: int) -> OwnDescriptor:
        if number not in self._descriptors:
            # O_NONBLOCK: if the path has become a named pipe, opening it must not wait for a writer.
            self._descriptors[number] = OwnDescriptor(self._paths[number], os.O_RDONLY | os.O_NONBLOCK)
        return self._descriptors[number]

    def _read_header(self, number: int, pause: Callable[[], None]) -> None:
        path = self._paths[number]
        descriptor = self._descriptor(number)
        size = descriptor.size
        prefix = descriptor.read(8, 0)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise ValueError(f"{path}: not a safetensors file, or its header is too long")
        header = descriptor.read(length, 8).decode()
        start = 8 + length
        for count, (key, entry) in enumerate(_entries(header), 1):
            if count % ENTRIES_PER_STEP == 0:
                pause()
            if key == "__metadata__" or not isinstance(entry, dict):
                continue
            shape = tuple(int(extent) for extent in entry["shape"])
            first, last = entry["data_offsets"]
            if not 0 <= first <= last <= size - start:
                raise ValueError(f"{path}: {key} lies outside the file")
            self.tensors[key] = (DTYPES.get(entry["dtype"], str(entry["dtype"])), shape)
            self._extents[key] = (number, start + first, last - first)


def _entries(header: str) -> Iterator[tuple[str, object]]:
    """The header's keys and values one by one: decoding a megabyte at once would hold the interpreter lock for 10 ms."""
    position = _past_blanks(header, 0)
    if header[position : position + 1] != "{":
        raise ValueError("the header is not a JSON object")
    position = _past_blanks(header, position + 1)
    while header[position : position + 1] not in ("}", ""):
        key, position = _DECODER.raw_decode(header, position)
        position = _past_blanks(header, position)
        if header[position : position + 1] != ":":
            raise ValueError("the header is not a JSON object")
        value, position = _DECODER.raw_decode(header, _past_blanks(header, position + 1))
        yield str(key), value
        position = _past_blanks(header, position)
        if header[position : position + 1] == ",":
            position = _past_blanks(header, position + 1)


def _past_blanks(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\n", "\r", "\t"):
        position += 1
    return position
