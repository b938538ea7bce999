"""Checkpoints that are Python pickles (`.pt`, `.pth`, `.ckpt`): listed, but never unpickled, since that can run any code."""

from __future__ import annotations

from gpumodels_tui.headers.headers import FileHeader

_ZIP: bytes = b"PK\x03\x04"
_PICKLE: bytes = b"\x80"


def recognises(beginning: bytes, size_bytes: int) -> bool:
    """Whether the file begins like torch.save's zip, or like the bare pickle that torch wrote before 1.6."""
    return beginning.startswith(_ZIP) or (beginning[:1] == _PICKLE and beginning[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def read(path: str, beginning: bytes, size_bytes: int) -> FileHeader:
    """A header without any contents: the file is not opened."""
    return FileHeader("pickle")
