"""Says on the rows of each view how often a device holds what was loaded from their files. Unchanged rows cost nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_
from typing import TypeAlias

from gpumodels_shared.records import Record, replace
from gpumodels_tui.view.copies import Copies, Origin, Resident, origin_of
from gpumodels_tui.view.rows import ModelRow

Placed: TypeAlias = "tuple[tuple[str, ModelRow], ...]"
"""The rows of one process, each with the key of the device that it is on."""


class _Group(Record):
    """The rows on one device of models from the same files."""

    rows: list[ModelRow]
    copies: Copies
    shown: list[ModelRow]
    """The same rows, which say so."""


class CopiedRows:
    """Completes view after view; of what is as it was before, the rows are the same objects."""

    def __init__(self) -> None:
        self._before: list[Placed] = []
        self._origins: dict[int, tuple[Placed, Sequence[Origin | None]]] = {}
        """By `id()` of the rows of a process, these rows and what each was loaded from."""
        self._groups: dict[tuple[str, Origin], _Group] = {}
        self._shown: Mapping[str, list[ModelRow]] = {}

    def by_device(self, processes: Sequence[Placed]) -> Mapping[str, list[ModelRow]]:
        """The rows by device.

        Args:
            processes: the rows of each process: the same object if they are the same as before.
        """
        if len(processes) == len(self._before) and all(map(is_, processes, self._before)):
            return self._shown
        self._before = list(processes)
        self._origins = {id(placed): self._with_origins(placed) for placed in processes}
        members: dict[tuple[str, Origin], list[ModelRow]] = {}
        for placed in processes:
            for (device, row), origin in zip(placed, self._origins[id(placed)][1], strict=True):
                if origin is not None:
                    members.setdefault((device, origin), []).append(row)
        self._groups = {key: _group(rows, self._groups.get(key)) for key, rows in members.items()}
        shown = {
            id(row): counted for group in self._groups.values() for row, counted in zip(group.rows, group.shown, strict=True)
        }
        found: dict[str, list[ModelRow]] = {}
        for placed in processes:
            for device, row in placed:
                found.setdefault(device, []).append(shown.get(id(row), row))
        self._shown = found
        return found

    def _with_origins(self, placed: Placed) -> tuple[Placed, Sequence[Origin | None]]:
        known = self._origins.get(id(placed))
        return known if known is not None and known[0] is placed else (placed, [origin_of(_resident(*one)) for one in placed])


def _resident(device: str, row: ModelRow) -> Resident:
    return Resident(device, row.model.id, row.on_bytes, row.model, row.process_state)


def _group(rows: list[ModelRow], before: _Group | None) -> _Group:
    if before is not None and len(rows) == len(before.rows) and all(map(is_, rows, before.rows)):
        return before
    copies = Copies(sum(row.on_bytes for row in rows), tuple((row.process_state.key, row.model.id) for row in rows))
    same = before is not None and before.copies == copies
    known = {id(row): shown for row, shown in zip(before.rows, before.shown, strict=True)} if before is not None and same else {}
    return _Group(rows, copies, [known.get(id(row)) or _counted(row, copies) for row in rows])


def _counted(row: ModelRow, copies: Copies) -> ModelRow:
    """The row, which says if it isn't the only one of these files."""
    said = [f"one of {copies.count} copies"] if copies.count > 1 else []
    return replace(row, copies=copies, note=", ".join([*([row.note] if row.note else []), *said]))
