"""The origin of a tensor's values: a file, and how that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gpumodels.provenance.files_read import Stamp
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.name_sources import NameSource

MAPPED: Final = NameSource.MAPPED_FILE
READ: Final = NameSource.READ_FILE
STATE_DICT: Final = NameSource.STATE_DICT


@never_pickled
@dataclass(frozen=True, slots=True)
class Origin:
    """The file that values came from, and how that is known."""

    path: str
    """Absolute; empty for NO_OBSERVED_FILE."""
    source: str
    """`mapped file`, `read file` or `state dict`; `elsewhere` for NO_OBSERVED_FILE."""
    stamp: Stamp | None = None
    """The file's stamp when it was read; the path may name another file by now."""


NO_OBSERVED_FILE: Final = Origin("", "elsewhere")
"""The origin of values that were not loaded from an observed file. It replaces whatever origin the tensor had before."""
