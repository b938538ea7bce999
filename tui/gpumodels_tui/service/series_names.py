"""What series call processes and models: the same while they live, and the same again after a restart, without a pid.

A label that changes with every start makes a new series each time, and a day of restarts fills a database. So the second process
of one name is `main.py (2)`, and the number is free again when it ends. A dead process, whose file stays for a while, keeps its
name until another process takes it over; then it has no series any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping
from typing import Final

from gpumodels_shared.liveness import Liveness
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
        self._process_numbers: Mapping[str, tuple[Hashable, int]] = {}
        self._model_numbers: Mapping[str, tuple[Hashable, int]] = {}
        self._processes: dict[str, tuple[str, str]] = {}
        self._ids: dict[str, str] = {}

    def keep(self, processes: Iterable[ProcessState], models: Iterable[ModelRow]) -> None:
        """Give each a name, and forget those that aren't there any more. Models of processes without a name have none."""
        living: dict[str, tuple[str, str]] = {}
        dead: dict[str, tuple[str, str]] = {}
        for state in sorted(processes, key=lambda state: -(state.snapshot_at_ns or 0)):
            (dead if state.liveness is Liveness.DEAD else living)[state.key] = (_label(state), label(state.user))
        numbers = _numbered(living, self._process_numbers)
        taken = set(numbers.values())
        for key, name in dead.items():
            before = self._process_numbers.get(key, (name, 1))
            if before not in taken and before[0] == name:
                taken.add(before)
                numbers[key] = before
        self._process_numbers = numbers
        named = living | dead
        self._processes = {
            key: (named[key][0] if number == 1 else f"{named[key][0]} ({number})", named[key][1])
            for key, (_, number) in numbers.items()
        }
        called = {
            row.key: (*of, row.model.name, row.kind) for row in models if (of := self._processes.get(row.process_state.key))
        }
        self._model_numbers = _numbered(called, self._model_numbers)
        self._ids = {key: _id(*called[key], str(number)) for key, (_, number) in self._model_numbers.items()}

    def has_name(self, state: ProcessState) -> bool:
        """Whether the process has series: all that live do."""
        return state.key in self._processes

    def process(self, state: ProcessState) -> tuple[str, str]:
        """`ComfyUI/main.py`, and `ComfyUI/main.py (2)` while another one of the same user has that name; and the user."""
        return self._processes[state.key]

    def model_id(self, row: ModelRow) -> str:
        """Eight hexadecimal digits that tell two models of the same name apart."""
        return self._ids[row.key]


def _numbered(names: Mapping[str, Hashable], before: Mapping[str, tuple[Hashable, int]]) -> dict[str, tuple[Hashable, int]]:
    """A number for each key, so that no two of one name have the same: the one that it had before, else the lowest free one."""
    numbers = {key: given for key, given in before.items() if names.get(key) == given[0]}
    taken = set(numbers.values())
    tried: dict[Hashable, int] = {}
    for key in sorted(names.keys() - numbers.keys()):
        name = names[key]
        number = tried.get(name, 0) + 1
        while (name, number) in taken:
            number += 1
        tried[name] = number
        numbers[key] = (name, number)
    return numbers


def _id(*words: str) -> str:
    return hashlib.blake2s("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()[:ID_CHARACTERS]


def _label(state: ProcessState) -> str:
    return label(state.snapshot.process.label if state.snapshot is not None else "process")
