"""Tests of checkpoints that are Python pickles: nothing that one of them says is ever run."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

from gpumodels_tui.headers.headers import FileHeader
from gpumodels_tui.headers.pickled_header import recognises
from header_replies import header_of


class Harm:
    """What a pickle may do to whoever opens it."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.abort, ())


def test_a_pickle_is_listed_and_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    path.write_bytes(pickle.dumps(Harm()))
    assert header_of(path, ".ckpt") == FileHeader("pickle")
    assert header_of(path, None) == FileHeader("pickle")


def test_what_torch_saves_is_recognised_without_its_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Harm()))
    assert header_of(tmp_path / "pytorch_model.bin", None) == FileHeader("pickle")


def test_a_bare_pickle_is_known_by_its_protocol_and_bytes_that_only_begin_alike_are_not() -> None:
    for protocol in (2, 3, 4, 5):
        assert recognises(pickle.dumps([1], protocol), 100)
    for other in (b"", b"\x80", b"\x80\x01", b"\x80\x09", b"PK\x05\x06", b"GGUF"):
        assert not recognises(other, 100)
