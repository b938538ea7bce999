"""Finds models that are in a device's memory more than once: loaded from the same files, by one process or by several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping

from gpumodels_shared.name_sources import KNOWN_FILE_CONFIDENCE
from gpumodels_tui.view.rows import ModelRow


def copies(rows: Iterable[tuple[str, ModelRow]]) -> Mapping[tuple[str, str], int]:
    """By device and model key: how many models there were loaded from the same files, the model itself included.

    Args:
        rows: Each model on each device that it has bytes on, with the device's key. Where files aren't certain, it is left out.
    """
    files = {(device, row.key): (device, of) for device, row in rows if (of := _loaded_from(row)) is not None}
    counts = Counter(files.values())
    return {where: counts[of] for where, of in files.items()}


def _loaded_from(row: ModelRow) -> Hashable:
    """What two copies of a model have in common; None if that isn't certain.

    One file may hold several models, as a full checkpoint does: class, kind, slot and size tell these apart. A path
    alone may mean another file in another container.
    """
    model = row.model
    if not model.files or model.confidence < KNOWN_FILE_CONFIDENCE or not (model.file_stamps or row.process_state.is_local):
        return None
    return (model.files, model.file_stamps, model.class_name, model.kind, model.slot, model.parameters)
