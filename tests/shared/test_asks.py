"""Questions of viewers, and answers: their names, contents and files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpumodels_shared.asks import (
    MAX_ASK_BYTES,
    OTHER,
    WHY,
    AskError,
    answer_name,
    ask_name,
    decode_answer,
    decode_ask,
    encode_ask,
    is_answer_of,
    is_ask_for,
    new_nonce,
    read_file,
)
from gpumodels_shared.places import write_new

FILE = "4711-99-0123abcd.gpm"
ME = {os.geteuid()}


def test_a_question_is_for_one_sidecar() -> None:
    name = ask_name(FILE, new_nonce())
    assert is_ask_for(name, FILE)
    assert is_answer_of(answer_name(name), FILE)
    assert not is_ask_for(answer_name(name), FILE)
    assert not is_answer_of(name, FILE)
    assert not is_ask_for(name, "4711-99-0123abce.gpm")
    assert not is_ask_for(name + "x", FILE)
    assert not is_ask_for(f"ask-4711-99-0123abcd-{'x' * 16}.json", FILE)


def test_what_was_asked_is_read() -> None:
    assert decode_ask(encode_ask(WHY, "m1/lora")) == (WHY, "m1/lora")
    assert decode_ask(encode_ask(OTHER)) == (OTHER, "")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": 1}', b'{"schema": 1, "state": 3}', b"[" * 100_000])
def test_what_is_no_answer_is_refused(content: bytes) -> None:
    with pytest.raises(AskError):
        decode_answer(content)


def test_files_are_private_and_bounded(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    write_new(tmp_path, "a.json", b"x" * (MAX_ASK_BYTES + 1), ME)
    assert os.stat(tmp_path / "a.json").st_mode & 0o777 == 0o600
    with pytest.raises(AskError, match="longer than"):
        read_file(tmp_path, "a.json", ME, MAX_ASK_BYTES)
    assert len(read_file(tmp_path, "a.json", ME, 2 * MAX_ASK_BYTES)) == MAX_ASK_BYTES + 1
    with pytest.raises(AskError, match="belongs to uid"):
        read_file(tmp_path, "a.json", {54_321}, 2 * MAX_ASK_BYTES)


def test_a_directory_that_others_may_write_to_is_not_asked_in(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(OSError, match="can be written by others"):
        write_new(tmp_path, "a.json", b"x", ME)
    assert os.listdir(tmp_path) == []
