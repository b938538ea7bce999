"""What series call processes and models: the same while they live, and the same again after a restart, without a pid.

A label that changes with every start makes a new series each time, and a day of restarts fills a database. So the second process
of one name is `main.py (2)`, and the number is free again when it ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable
from typing import Final

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.sources.feed import ProcessState
from gpumodels_tui.view.rows import ModelRow

LONGEST_LABEL: Final = 120
"""Characters; longer labels are cut."""

ID_CHARACTERS: Final = 8


def label(text: str) -> str:
    """The text as a label's value: nothing invisible in it, and not too long."""
    return safe_text(text, LONGEST_LABEL)


class SeriesNames:
    """Numbers things of the same name, the lowest free number first. Only one thread at a time may use it."""

    def __init__(self) -> None:
        self._processes = _Numbers()
        self._models = _Numbers()

    def keep(self, processes: Iterable[ProcessState], models: Iterable[ModelRow]) -> None:
        """Give each a name, and forget those that aren't there any more."""
        self._processes.keep((state.key, (_label(state), state.user)) for state in processes)
        self._models.keep(
            (row.key, (self.process(row.process_state), row.process_state.user, row.name, row.kind)) for row in models
        )

    def process(self, state: ProcessState) -> str:
        """`ComfyUI/main.py`, and `ComfyUI/main.py (2)` while another one of the same user has that name."""
        number = self._processes.number(state.key)
        return _label(state) if number == 1 else f"{_label(state)} ({number})"

    def model_id(self, row: ModelRow) -> str:
        """Eight hexadecimal digits that tell two models of the same name apart."""
        of = "\0".join((*self._called(row), str(self._models.number(row.key))))
        return hashlib.blake2s(of.encode("utf-8", "surrogatepass")).hexdigest()[:ID_CHARACTERS]

    def _called(self, row: ModelRow) -> tuple[str, ...]:
        return self.process(row.process_state), row.process_state.user, row.model.name, row.kind


class _Numbers:
    def __init__(self) -> None:
        self._given: dict[str, tuple[Hashable, int]] = {}

    def keep(self, present: Iterable[tuple[str, Hashable]]) -> None:
        names = dict(present)
        self._given = {key: given for key, given in self._given.items() if names.get(key) == given[0]}
        taken = set(self._given.values())
        for key in sorted(names.keys() - self._given.keys()):
            name, number = names[key], 1
            while (name, number) in taken:
                number += 1
            taken.add((name, number))
            self._given[key] = (name, number)

    def number(self, key: str) -> int:
        return self._given[key][1]


def _label(state: ProcessState) -> str:
    return label(state.snapshot.process.label if state.snapshot is not None else "process")
