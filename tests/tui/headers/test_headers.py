"""Tests of the messages between the viewer and its header worker."""

from __future__ import annotations

import msgspec

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.headers.headers import FRAME, FileHeader, Reply, Request, UnreadableError, Wanted, frame


def test_a_message_goes_through_the_pipe_behind_its_length_and_comes_out_the_same() -> None:
    wanted = Wanted(7, Fingerprint((TensorSample("w", "float32", (4, 4), b"\0\xff"),), 5))
    header = FileHeader("safetensors", {"title": "Flüx"}, 3, {"float32": 16}, b"\x91", ("a",), rank=8)
    messages: list[Request | Reply] = [
        Request(b"/m/caf\xe9.gguf", ".gguf", (7,), (wanted,), is_read=False, others=(b"/m/b",)),
        Reply(header, (Match(1, 2), None)),
        Reply(reason="truncated", unfinished=True),
    ]
    for message in messages:
        framed = frame(message)
        (length,) = FRAME.unpack(framed[: FRAME.size])
        assert length == len(framed) - FRAME.size
        assert msgspec.msgpack.decode(framed[FRAME.size :], type=type(message)) == message


def test_a_brief_header_leaves_long_metadata_behind_and_says_so() -> None:
    header = FileHeader("safetensors", {"title": "x", "ss_tag_frequency": "tag " * 1_000}, 3, {"float32": 16}, rank=8)
    assert header.brief() == FileHeader("safetensors", {"title": "x"}, 3, {"float32": 16}, is_brief=True, rank=8)


def test_a_header_of_few_words_is_its_own_brief() -> None:
    header = FileHeader("safetensors", {"title": "x"})
    assert header.brief() is header


def test_what_may_be_half_written_is_told_from_what_is_broken() -> None:
    broken, unfinished = UnreadableError("invalid JSON"), UnreadableError("truncated", unfinished=True)
    assert [(str(error), error.reason, error.unfinished) for error in (broken, unfinished)] == [
        ("invalid JSON", "invalid JSON", False),
        ("truncated", "truncated", True),
    ]
