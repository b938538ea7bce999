"""Where a tensor's values came from, as one word of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gpumodels.provenance.files_read import Stamp
from gpumodels.support.resident import resident
from gpumodels_shared.name_sources import NameSource

MAPPED: Final = NameSource.MAPPED_FILE
READ: Final = NameSource.READ_FILE
STATE_DICT: Final = NameSource.STATE_DICT


@resident
@dataclass(frozen=True, slots=True)
class Origin:
    """Where values came from, and how that is known."""

    path: str
    source: str
    """`mapped file`, `read file` or `state dict`."""
    stamp: Stamp | None = None
    """The file's when it was read: another one may have its name by now."""


ELSEWHERE: Final = Origin("", "elsewhere")
"""Values that were loaded from no file that was seen: what was known of the tensor before doesn't hold any more."""
