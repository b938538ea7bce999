"""Checks that a payload is one complete msgpack object before anything is built from it.

An array may claim 400,000 entries in five bytes, and hold another that does so: every length must be filled by actual bytes.
"""

from __future__ import annotations

import msgpack

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES


class DecodeError(ValueError):
    """The payload is not a snapshot; the text says why, in one line."""


def check_shape(payload: bytes) -> None:
    """Check that it is one msgpack object of which every array, map and text is complete, and nothing more. Builds nothing.

    Raises:
        DecodeError: it isn't, or is longer than any snapshot.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise DecodeError(f"payload of {len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}")
    unpacker = msgpack.Unpacker(None, max_buffer_size=MAX_PAYLOAD_BYTES)
    unpacker.feed(payload)
    try:
        unpacker.skip()
    except msgpack.OutOfData as error:
        raise DecodeError("not msgpack: incomplete") from error
    except (msgpack.StackError, RecursionError) as error:
        raise DecodeError("not msgpack within limits: nested too deep") from error
    except (ValueError, msgpack.UnpackException) as error:
        raise DecodeError(f"not msgpack: {type(error).__name__} {str(error)[:200]}".rstrip()) from error
    if (end := unpacker.tell()) != len(payload):
        raise DecodeError(f"not a snapshot: {len(payload) - end} bytes after its end")
