"""The weakest hint: which file was read when a model was built. It gives no name, only a guess shown with a question mark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from gpumodels.provenance.files_read import ReadFile

BEFORE_NS: Final = 10 * 10**9
"""A file that was read at most this long before a model was built may be the model's."""
AFTER_NS: Final = 60 * 10**9
"""Or at most this long after, as models are built before they are filled."""


def read_when_built(checkpoints: Iterable[Sequence[ReadFile]], built_ns: int, held_bytes: int) -> tuple[str, ...]:
    """The files of the one checkpoint that was read when the model was built and is about as large, in whatever precision.

    Empty if there are several or none, or if the model was built before it was observed.
    """
    if not built_ns:
        return ()
    fitting = [
        files
        for files in checkpoints
        if all(built_ns - BEFORE_NS <= file.read_ns <= built_ns + AFTER_NS for file in files)
        and is_as_large(sum(file.stamp.size_bytes for file in files if file.stamp is not None), held_bytes)
    ]
    return tuple(file.path for file in fitting[0]) if len(fitting) == 1 else ()


def is_as_large(file_bytes: int, held_bytes: int) -> bool:
    """Whether the sizes agree up to a cast between 32 and 8 bits, and the size of the header."""
    return 0 < file_bytes <= 4.5 * held_bytes and held_bytes <= 4.5 * file_bytes
