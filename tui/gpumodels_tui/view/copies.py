"""Finds models that are in a device's memory more than once: loaded from the same files, by one process or by several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpumodels_shared.name_sources import KNOWN_FILE_CONFIDENCE
from gpumodels_shared.records import Record
from gpumodels_shared.schema import Model
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.device_names import holds_memory


class Resident(Record):
    """A model's memory on one device."""

    device: str
    """The device's key."""
    id: str
    """The model's, within its process."""
    bytes: int
    model: Model
    process: ProcessState


class Copies(Record):
    """The models on one device that were loaded from the same files."""

    bytes: int
    """Of all of them together."""
    models: tuple[tuple[str, str], ...]
    """Of each the process's key, and its own id."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.models)


class Origin(Record):
    """What two copies of a model have in common.

    One file may hold several models, as a full checkpoint does: class, kind, slot and size tell these apart.
    """

    files: tuple[str, ...]
    file_stamps: tuple[tuple[int, int], ...]
    class_name: str
    kind: str
    slot: str | None
    parameters: int


def copies_of(residents: Iterable[Resident]) -> Mapping[tuple[str, str, str], Copies]:
    """By the keys of device and process and the model's id: the models there from the same files, itself included.

    Where the files aren't certain, the model is left out; so is one of which nothing or too little is there to be a copy.
    """
    groups: dict[tuple[str, Origin], list[Resident]] = {}
    for one in residents:
        if (origin := origin_of(one)) is not None:
            groups.setdefault((one.device, origin), []).append(one)
    found = {}
    for group in groups.values():
        copies = Copies(sum(one.bytes for one in group), tuple((one.process.key, one.id) for one in group))
        found.update({(one.device, one.process.key, one.id): copies for one in group})
    return found


def origin_of(one: Resident) -> Origin | None:
    """What it was loaded from; None if that isn't certain, or if nothing or too little is there to be a copy.

    A path alone may mean another file in another container.
    """
    model = one.model
    if one.bytes <= 0 or not holds_memory(one.process):
        return None
    if not model.files or model.confidence < KNOWN_FILE_CONFIDENCE or not (model.file_stamps or one.process.is_local):
        return None
    if model.leftover_of is not None or model.shared_bytes > model.resident_bytes:
        return None  # most of it is another model's memory
    return Origin(model.files, model.file_stamps, model.class_name, model.kind, model.slot, model.parameters)
