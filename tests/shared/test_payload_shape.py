"""What isn't one complete msgpack object is refused before anything is built."""

from __future__ import annotations

import msgpack
import pytest

from gpumodels_shared.codec import MAX_PAYLOAD_BYTES
from gpumodels_shared.payload_shape import DecodeError, check_shape


def test_a_complete_object_is_accepted() -> None:
    check_shape(msgpack.packb({"a": [1, {"b": None}]}))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xdd\xff\xff\xff\xff", "not msgpack: incomplete"),
        (b"\x91" * 2000 + b"\xc0", "nested too deep"),
        (b"\xc0\xc0", "1 bytes after its end"),
        (b"\xc1", "not msgpack"),
        (bytes(MAX_PAYLOAD_BYTES + 1), "over the limit"),
    ],
)
def test_anything_else_is_refused_with_the_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        check_shape(payload)
