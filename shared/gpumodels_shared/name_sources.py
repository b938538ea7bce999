"""The sources of models' names and their confidences: part of the file format, shared by sidecar and viewer."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class NameSource(str, Enum):
    """The values of `Model.name_source`, strongest first. Readers accept any other text: a newer sidecar may have more sources.

    Not an `enum.StrEnum`, which needs Python 3.11.
    """

    LABEL = "label"
    """What the program called it by `gpumodels.label`."""
    MAPPED_FILE = "mapped file"
    """The file that the weights are mapped from."""
    VALUES = "values"
    """The file whose values agree with the weights."""
    STATE_DICT = "state dict"
    """The file that the loaded state dict was read from."""
    READ_FILE = "read file"
    """The file that the weights were read from."""
    CONFIG = "config"
    """The model's `config._name_or_path`."""
    PIPELINE = "pipeline"
    """The path or repository that the model's pipeline was loaded from."""
    FILE_METADATA = "file metadata"
    """The metadata of the model's file; set by the viewer only."""
    ATTRIBUTE = "attribute"
    """The module's attribute `model_name` or `name`."""
    NAMES_AND_SHAPES = "names and shapes"
    """The only file with tensors of all the model's names and shapes; its values can't be compared."""
    NODE_INPUT = "node input"
    """The only file that the inputs of the ComfyUI node name in which the model was built; its values can't be compared."""
    RECENCY = "recency"
    """The model's class; a file that was read at about the time it was loaded is a candidate."""
    CLASS = "class"
    """The model's class, with the architecture if a config tells it."""
    PENDING = "pending"
    """A provisional name from the model itself, until its values have been compared with files."""
    LEFTOVER = "leftover"
    """What is left of a model, held by reference cycles only, is called by that model."""
    SUM = "sum"
    """The entry that sums up many small modules."""

    def __str__(self) -> str:
        return self.value

    def __format__(self, format_spec: str) -> str:
        return format(self.value, format_spec)


CONFIDENCE: Final[Mapping[str, float]] = {
    NameSource.LABEL: 1.0,
    NameSource.MAPPED_FILE: 0.99,
    NameSource.VALUES: 0.97,
    NameSource.STATE_DICT: 0.95,
    NameSource.READ_FILE: 0.95,
    NameSource.CONFIG: 0.95,
    NameSource.PIPELINE: 0.9,
    NameSource.FILE_METADATA: 0.9,
    NameSource.ATTRIBUTE: 0.8,
    NameSource.NAMES_AND_SHAPES: 0.7,
    NameSource.NODE_INPUT: 0.65,
}
PATCHED_VALUES_CONFIDENCE: Final = 0.75
"""Of a name by values, if something was merged into some of them."""
UNSEEN_LOAD_CONFIDENCE: Final = 0.8
"""The most of a name by a config or a pipeline, if the model was there before its process was observed: something else may have
been written over what its library loaded."""
MIN_NAME_CONFIDENCE: Final = 0.6
"""Below this confidence, the name shown is the class."""
KNOWN_FILE_CONFIDENCE: Final = 0.5
"""Of a class shown as name if the file is known but gives no name, or candidates are known. Below this confidence, only part of
the model is from `files`."""
RECENCY_CONFIDENCE: Final = 0.3
"""Of a class shown as name with recently read files as candidates, or those that a config names, if nothing shows that they were
read."""

FROM_FILES: Final = frozenset(
    {
        NameSource.MAPPED_FILE,
        NameSource.VALUES,
        NameSource.STATE_DICT,
        NameSource.READ_FILE,
        NameSource.NAMES_AND_SHAPES,
    }
)
"""The sources that determine the file, not only the name."""
