"""The names that a program gives its models by `gpumodels.label`: surer than all that can be found out about them."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from gpumodels.observing.import_hook import imported_torch
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.instances import is_a
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.weak_table import WeakTable

MAX_NAME: Final = 300
MAX_FILES: Final = 256
MAX_CHANGES: Final = 4096

PathLike = str | os.PathLike[str]


@never_pickled
@dataclass(frozen=True, slots=True)
class Label:
    """What a program says of one of its modules."""

    name: str
    files: tuple[str, ...] = ()
    """Absolute paths: every shard of what it was loaded from; empty if the program doesn't say."""
    number: int = field(default_factory=itertools.count(1).__next__, compare=False)
    """Increases from label to label."""


@never_pickled
class Labels:
    """Labels by module. They last for as long as their module, and keep nothing alive."""

    def __init__(self) -> None:
        self._labels: WeakTable[Label] = WeakTable()
        self.by_id = self._labels.by_id
        """The labelled modules by id; read-only."""
        self._changed: deque[int] = deque(maxlen=MAX_CHANGES)

    def put(self, module: Any, label: Label) -> None:
        """Set the module's label."""
        self._labels.put(module, label)
        self._changed.append(id(module))

    def take(self, module: Any) -> None:
        """Remove the module's label."""
        if self._labels.take(module) is not None:
            self._changed.append(id(module))

    def __len__(self) -> int:
        return len(self._labels)

    def __contains__(self, module: int) -> bool:
        return module in self.by_id

    def take_changed(self) -> list[int]:
        """The ids of modules whose labels changed since the last call, for the sidecar's thread."""
        return [self._changed.popleft() for _ in range(len(self._changed))]

    def of(self, *modules: int) -> Label | None:
        """The last that was given to one of the live modules with these ids."""
        given = [ref.value for key in modules if (ref := self._labels.ref(key)) is not None]
        return max(given, key=attrgetter("number"), default=None)


LABELS: Final = Labels()
"""Of this process, whether a sidecar runs or not: labels may be given before it starts."""
_failures: Final = Failures()


def label(module: Any, name: str | None, file: PathLike | Sequence[PathLike] | None = None) -> None:
    """Name a model: this is what `gpumodels-tui` calls it, whatever else is known of it. Never raises, keeps nothing alive.

    Before `start()` or after it. What is known of the model's files stays with it, unless `file` says which they are.

    Args:
        module: the model: any `nn.Module` that no other one holds, or the module in its wrappers (`torch.compile`, DDP, PEFT …).
        name: for people; None takes the label back.
        file: what it was loaded from, where that isn't known anyway; several for a checkpoint in shards.
    """
    with _failures.guard("labelling a model"):
        torch = imported_torch()
        if torch is None or not is_a(module, torch.nn.Module):
            LOGGER.warning("label() is for an nn.Module, not for a %s; nothing is labelled", type(module).__name__)
        elif name is None:
            LABELS.take(module)
        elif not is_a(name, str) or not str.strip(name):
            LOGGER.warning("label() is given no name; nothing is labelled")
        else:
            LABELS.put(module, Label(str.__str__(name)[:MAX_NAME], _paths(file)))


def _paths(file: PathLike | Sequence[PathLike] | None) -> tuple[str, ...]:
    if file is None:
        return ()
    given: Any = file if is_a(file, list) or is_a(file, tuple) else (file,)
    return tuple(os.path.abspath(os.path.expanduser(os.fspath(one))) for one in given[:MAX_FILES])  # noqa: PTH100, PTH111
