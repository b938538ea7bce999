"""Reads long headers of safetensors files in pieces, so that the memory for it stays bounded. Runs in the worker process.

safetensors itself needs several times a header's length, and so does a dict of all tensors: 100 MB, which is the most that the
format allows, would take gigabytes. Here at most a piece is decoded at once, and metadata are cut before they become texts.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from gpumodels_tui.headers.headers import UnreadableError
from gpumodels_tui.headers.metadata import EXCERPT_CHARACTERS

PIECE_BYTES: Final = 2 * 1024 * 1024
MAX_METADATA_KEYS: Final = 20_000
MAX_METADATA_BYTES: Final = 256 * 1024
"""Of one value in JSON; of a longer one only the beginning is decoded."""
MAX_TRIES: Final = 10_000
"""How many braces are tried as the end of a piece."""

METADATA: Final = "__metadata__"
_BOUNDARY: Final = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*(?=\"(?:[^\"\\]|\\.)*\"[ \t\r\n]*:[ \t\r\n]*\{)", re.DOTALL)
"""The end of a tensor's entry and the comma behind it. Nothing in a text looks like that, as quotes in texts are escaped."""
_CUT_ESCAPE: Final = re.compile(rb"\\(u[0-9a-fA-F]{0,3})?$")


class Entry(msgspec.Struct, gc=False):
    """One tensor's entry in the header."""

    dtype: str = ""
    shape: tuple[int, ...] = ()
    data_offsets: tuple[int, int] = (0, 0)


class _Metadata(msgspec.Struct, gc=False):
    """A header of which only the metadata are decoded, and these not yet."""

    metadata: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"{}"), name=METADATA)


_METADATA_OF_HEADER: Final = msgspec.json.Decoder(_Metadata)
_VALUES: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ALL_ENTRIES: Final = msgspec.json.Decoder(dict[str, Entry])
"""Decodes the metadata as an empty entry, unless they use the name of an entry's field."""
_HEADER: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRY: Final = msgspec.json.Decoder(Entry)


def decoded_entries(header: bytes | bytearray) -> dict[str, Entry]:
    """The tensors in a header, or in a piece of one that is a JSON object.

    Raises:
        msgspec.MsgspecError: it is no header.
    """
    try:
        entries = _ALL_ENTRIES.decode(header)
    except msgspec.ValidationError:
        return {key: _ENTRY.decode(raw) for key, raw in _HEADER.decode(header).items() if key != METADATA}
    entries.pop(METADATA, None)
    return entries


class LargeHeader:
    """A file's header, mapped into memory. To be closed."""

    def __init__(self, descriptor: int, start: int, length: int) -> None:
        """Args:
        descriptor: of the open file.
        start: where in the file the header begins.
        length: in bytes.
        """
        self._data = mmap.mmap(descriptor, start + length, access=mmap.ACCESS_READ)
        self._start, self._end = start, start + length

    def close(self) -> None:
        """Release the mapping; what was decoded stays valid."""
        self._data.close()

    def metadata(self) -> Mapping[str, str]:
        """The metadata, the longest values cut. This also checks that the whole header is JSON.

        Raises:
            UnreadableError: it is none.
        """
        found: dict[str, str] = {}
        with memoryview(self._data) as view, view[self._start : self._end] as header:
            try:
                raw = _METADATA_OF_HEADER.decode(header).metadata
                values = _VALUES.decode(raw)
                for key, value in list(values.items())[:MAX_METADATA_KEYS]:
                    text = _text(value)
                    if text is not None:
                        found[key] = text
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise UnreadableError("its header is not JSON", unfinished=True) from error
            finally:
                raw = value = msgspec.Raw(b"")
                values = {}
        return found

    def pieces(self) -> Iterator[Mapping[str, Entry]]:
        """The tensors, some at a time.

        Raises:
            UnreadableError: the header can't be taken apart.
        """
        data = self._data
        position = data.find(b"{", self._start, self._end) + 1
        while position < self._end:
            end, following = self._end_of_piece(position)
            piece = bytearray(b"{")
            piece += memoryview(data)[position:end]
            if following < self._end:
                piece += b"}"
            try:
                yield decoded_entries(piece)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise UnreadableError("its header is not JSON", unfinished=True) from error
            position = following

    def _end_of_piece(self, start: int) -> tuple[int, int]:
        """Where a piece ends, behind a brace, and where the next one begins, behind the comma."""
        size = PIECE_BYTES
        while start + size < self._end:
            candidate, lowest = start + size, start + size // 2
            for _ in range(MAX_TRIES):
                candidate = self._data.rfind(b"}", lowest, candidate)
                if candidate < 0:
                    break
                found = _BOUNDARY.match(self._data, candidate, min(self._end, candidate + PIECE_BYTES))
                if found is not None:
                    return candidate + 1, found.end()
            size *= 2  # a single entry is longer, as metadata may be
        return self._end, self._end


def _text(raw: msgspec.Raw) -> str | None:
    """A metadata value; None if it is no text, or contains what is none."""
    with memoryview(raw) as view:
        if len(view) <= MAX_METADATA_BYTES:
            value: object = msgspec.json.decode(view)
            return value if isinstance(value, str) else None
        if view[0] != ord('"'):
            return None
        beginning = bytes(view[:MAX_METADATA_BYTES])
    beginning = _CUT_ESCAPE.sub(b"", beginning).decode(errors="ignore").encode()
    for shorter in (beginning, beginning[:-6]):  # a surrogate pair may be cut, too
        try:
            return msgspec.json.decode(shorter + b'"', type=str)[:EXCERPT_CHARACTERS] + "…"
        except msgspec.MsgspecError:
            continue
    return None
