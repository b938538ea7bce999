"""Model files that the host was told to use before it built a model: ComfyUI's nodes name them in their inputs.

That is a hint of what a model is from, not a proof: the values decide wherever they can be compared.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple

from gpumodels.provenance.files_read import FilesRead, stamp_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.slices import in_slices

MAX_RUNS: Final = 256
FOLDERS_MODULE: Final = "folder_paths"
FOLDERS: Final = "folder_names_and_paths"
NO_MODELS: Final = frozenset({"custom_nodes", "datasets", "configs", "diffusers"})
"""Names under which ComfyUI registers folders that hold no model files."""


@never_pickled
class NamingRun(NamedTuple):
    """A part of the host's work in which models may be built, such as a node's run."""

    number: int
    started_ns: int
    ended_ns: int | None
    """None while it runs."""
    files: tuple[str, ...]
    """Absolute paths of the model files that its inputs name."""


@never_pickled
class FilesNamed:
    """The latest runs. Only the sidecar's thread uses it."""

    def __init__(self, files_read: FilesRead) -> None:
        self._files_read = files_read
        self._runs: deque[NamingRun] = deque(maxlen=MAX_RUNS)
        self.version = 0
        """Increases when files were named."""

    def put(self, run: NamingRun) -> None:
        """Add a run, or replace what was known of it."""
        for index, known in enumerate(self._runs):
            if known.number == run.number:
                self.version += bool(set(run.files) - set(known.files))
                self._runs[index] = run
                return
        self.version += bool(run.files)
        self._runs.append(run)

    def named_when_built(self, built_ns: int) -> tuple[str, ...]:
        """The files named by the run in which something was built; empty if there is none, or if several ran at that moment."""
        if not built_ns:
            return ()
        runs = [run for run in self._runs if run.started_ns <= built_ns <= (run.ended_ns or built_ns)]
        return runs[0].files if len(runs) == 1 else ()

    def resolve(self, names: Sequence[str], started_ns: int, pause: Callable[[], None]) -> tuple[str, ...]:
        """The files that these names mean in ComfyUI's folders of models, each once.

        Where a name means a different file in several folders, it is the one that was read since `started_ns`; else none of them.
        """
        found: dict[object, str] = {}
        in_slices(self._find(names, started_ns, found), pause)
        return tuple(found.values())

    def _find(self, names: Sequence[str], started_ns: int, found: dict[object, str]) -> Iterator[None]:
        """Fill `found`, by the files' stamps."""
        folders = _model_folders() if names else []
        for name in names:
            by_stamp: dict[object, str] = {}
            for path in _paths_of(name, folders):
                if os.path.isfile(path):  # noqa: PTH113
                    by_stamp.setdefault(stamp_of(path) or path, path)
                yield
            if len(by_stamp) > 1:
                read = {file.stamp for file in self._files_read.of(self._files_read.paths()) if file.read_ns >= started_ns}
                by_stamp = {stamp: path for stamp, path in by_stamp.items() if stamp in read}
            if len(by_stamp) == 1:
                for stamp, path in by_stamp.items():
                    found.setdefault(stamp, path)


def _paths_of(name: str, folders: Sequence[str]) -> Iterator[str]:
    """Where the file with this name may be: in each of the folders, never outside them."""
    if os.path.isabs(name):  # noqa: PTH117
        path = os.path.normpath(name)
        if any(path.startswith(folder + os.sep) for folder in folders):
            yield path
        return
    inside = os.path.normpath(os.sep + name).lstrip(os.sep)
    yield from (os.path.join(folder, inside) for folder in folders)  # noqa: PTH118


def _model_folders() -> list[str]:
    """The folders in which ComfyUI looks for models, read as data."""
    module = sys.modules.get(FOLDERS_MODULE)
    registered = module.__dict__.get(FOLDERS) if type(module) is ModuleType else None
    if type(registered) is not dict:
        return []
    found: dict[str, None] = {}
    for name, entry in list(registered.items()):
        folders: Any = entry[0] if type(entry) in (tuple, list) and entry else ()
        if type(folders) is list and name not in NO_MODELS:
            for folder in folders:
                if type(folder) is str:
                    found[os.path.abspath(folder)] = None  # noqa: PTH100 — symlinks stay
    return list(found)
