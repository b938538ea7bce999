"""What a model's name was taken from, and how sure that is: part of the file format, the same for who writes and who reads."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class NameSource(str, Enum):
    """`Model.name_source`, strongest first. Readers accept any other text as well: a newer sidecar may know more ways.

    `enum.StrEnum` came with Python 3.11.
    """

    MAPPED_FILE = "mapped file"
    """The file that the weights are mapped from."""
    VALUES = "values"
    """The file whose values they are."""
    STATE_DICT = "state dict"
    """The file from which the state dict was read that was loaded."""
    READ_FILE = "read file"
    """The file that the weights were read from."""
    CONFIG = "config"
    """`config._name_or_path`."""
    PIPELINE = "pipeline"
    """What the pipeline was loaded from whose component it is."""
    FILE_METADATA = "file metadata"
    """What its file says of itself; said by the viewer."""
    ATTRIBUTE = "attribute"
    """`model_name` or `name` of the module."""
    NAMES_AND_SHAPES = "names and shapes"
    """The only file with tensors of all its names and shapes; its values are out of reach."""
    RECENCY = "recency"
    """Its class; a file that was read when it came is a candidate."""
    CLASS = "class"
    """Its class, with the architecture where a config tells it."""
    PENDING = "pending"
    """What the model says of itself, as long as its values and files are still to be compared."""
    SUM = "sum"
    """Of many small modules."""

    def __str__(self) -> str:
        return self.value

    def __format__(self, format_spec: str) -> str:
        return format(self.value, format_spec)


CONFIDENCE: Final[Mapping[str, float]] = {
    NameSource.MAPPED_FILE: 0.99,
    NameSource.VALUES: 0.97,
    NameSource.STATE_DICT: 0.95,
    NameSource.READ_FILE: 0.95,
    NameSource.CONFIG: 0.95,
    NameSource.PIPELINE: 0.9,
    NameSource.FILE_METADATA: 0.9,
    NameSource.ATTRIBUTE: 0.8,
    NameSource.NAMES_AND_SHAPES: 0.7,
}
PATCHED_CONFIDENCE: Final = 0.75
"""By values, where something was merged into some of them."""
SURE_ENOUGH: Final = 0.6
"""Below it the name is the class."""
KNOWN_FILE_CONFIDENCE: Final = 0.5
"""The class, where the file is known but has no name, or candidates are; below, `files` are what some of the model is from."""
RECENCY_CONFIDENCE: Final = 0.3

FROM_FILES: Final = frozenset(
    {
        NameSource.MAPPED_FILE,
        NameSource.VALUES,
        NameSource.STATE_DICT,
        NameSource.READ_FILE,
        NameSource.NAMES_AND_SHAPES,
    }
)
"""Sources that say which file, not only which name."""
