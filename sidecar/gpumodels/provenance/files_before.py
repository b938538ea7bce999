"""The model files that a process may have read before it was observed: a hint of where to look, never a proof.

Four kinds, the best first: files that the process has open or mapped; files that its command line, its main module or the code of
its running functions names; files in its working directory and beside those of the first two kinds; and files one level below the
working directory. A file that was written since the process began may be its own. Names are read as data, no file is opened here.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from gpumodels.observing.live_frames import frames_of_thread, threads_with_frames
from gpumodels.provenance.file_mappings import MODEL_SUFFIXES
from gpumodels.provenance.files_read import ReadFile, Stamp, stamp_of
from gpumodels.provenance.mapped_storages import PATH_TYPES
from gpumodels.support.instances import name_of, package_of, state_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.identity import started_at_seconds
from gpumodels_shared.shards import checkpoint_of

MAX_TEXTS: Final = 1_000
"""Variables of the main module, and arguments of the command line, that are read."""
MAX_FILES: Final = 256
"""Of each kind."""
MAX_FOLDERS: Final = 64
MAX_ENTRIES: Final = 2_000
"""Of one folder."""
MAX_OPEN: Final = 2_000
"""Descriptors that are read."""
MAX_THREADS: Final = 64
MAX_PATH: Final = 4_096
KEPT_SECONDS: Final = 60.0
"""An answer holds so long: models that were there before aren't loaded anew without notice."""
OPEN: Final = "/proc/self/fd"
PER_STEP: Final = 32

Groups = Mapping[str, tuple[ReadFile, ...]]


@never_pickled
class FilesBefore:
    """Only the sidecar's thread uses it.

    Args:
        mapped: paths of the files that the process has mapped, as far as they are known.
        pause: called between two slices of work, while nothing of the host's is held.
    """

    def __init__(self, mapped: Callable[[], Iterable[str]], pause: Callable[[], None]) -> None:
        self._mapped = mapped
        self._pause = pause
        self._known: tuple[Groups, ...] = ()
        self._known_at = float("-inf")

    def by_kind(self) -> tuple[Groups, ...]:
        """The files by checkpoint, one mapping for each kind that has any; a file is in the first of its kinds."""
        if time.monotonic() - self._known_at >= KEPT_SECONDS:
            self._known = tuple(self._found())
            self._known_at = time.monotonic()
        return self._known

    def all(self) -> Groups:
        """The files of all kinds, by checkpoint; a checkpoint has all of its files that were found."""
        found: dict[str, tuple[ReadFile, ...]] = {}
        for groups in self.by_kind():
            for checkpoint, files in groups.items():
                found[checkpoint] = (*found.get(checkpoint, ()), *files)
        return found

    def _found(self) -> Iterator[Groups]:
        met: set[Stamp] = set()
        at_hand = self._grouped([*self._mapped(), *_open_files()], met)
        named = self._grouped(list(self._named()), met)
        folders = [os.path.dirname(file.path) for of in (at_hand, named) for files in of.values() for file in files]  # noqa: PTH120
        working = _working_folders()
        beside = self._grouped(list(self._in_folders(dict.fromkeys([*folders, *working[:1]]))), met)
        below = self._grouped(list(self._in_folders(working[1:])), met)
        return (groups for groups in (at_hand, named, beside, below) if groups)

    def _grouped(self, paths: Iterable[str], met: set[Stamp]) -> Groups:
        found: dict[str, tuple[ReadFile, ...]] = {}
        count, began_ns = 0, _began_ns()
        for number, path in enumerate(dict.fromkeys(paths)):
            if number % PER_STEP == 0:
                self._pause()
            stamp = stamp_of(path) if count < MAX_FILES else None
            if stamp is None or stamp in met or stamp.modified_ns >= began_ns:
                continue
            if os.path.isfile(path):  # noqa: PTH113
                met.add(stamp)
                count += 1
                checkpoint = checkpoint_of(path)
                found[checkpoint] = (*found.get(checkpoint, ()), ReadFile(path, 0, None))
        return found

    def _named(self) -> Iterator[str]:
        """The files that the command line and the program's own texts name, and those in folders that the command line names."""
        for argument in sys.argv[1 : 1 + MAX_TEXTS]:
            if type(argument) is str:
                for text in (argument, argument.partition("=")[2]):
                    if _may_be_model(text):
                        yield os.path.abspath(text)  # noqa: PTH100 — symlinks stay
                    elif os.sep in text and len(text) <= MAX_PATH and "\0" not in text and os.path.isdir(text):  # noqa: PTH112
                        yield from self._in_folders([os.path.abspath(text)])  # noqa: PTH100
        texts = _texts_of_main_module()
        for thread in threads_with_frames(threading.get_ident())[:MAX_THREADS]:
            self._pause()
            texts += _texts_of_thread(thread)
        yield from [os.path.abspath(text) for text in texts if _may_be_model(text)]  # noqa: PTH100

    def _in_folders(self, folders: Iterable[str]) -> Iterator[str]:
        for folder in list(folders)[:MAX_FOLDERS]:
            self._pause()
            try:
                with os.scandir(folder) as entries:
                    names = [entry.name for entry, _ in zip(entries, range(MAX_ENTRIES), strict=False)]
            except OSError:
                continue  # it isn't there, or may not be listed
            yield from (os.path.join(folder, name) for name in sorted(names) if name.endswith(MODEL_SUFFIXES))  # noqa: PTH118


def _began_ns() -> int:
    """When this process began, realtime nanoseconds; now, where that isn't known."""
    began = started_at_seconds(os.getpid())
    return time.time_ns() if began is None else int(began * 1e9)


def _working_folders() -> list[str]:
    """The working directory, and the folders in it; none if it was removed."""
    try:
        directory = os.getcwd()  # noqa: PTH109
        with os.scandir(directory) as entries:
            below = [one.path for one, _ in zip(entries, range(MAX_ENTRIES), strict=False) if one.is_dir()]
    except OSError:
        return []
    return [directory, *sorted(below)]


def _may_be_model(text: str) -> bool:
    return text.endswith(MODEL_SUFFIXES) and len(text) <= MAX_PATH and "\n" not in text and "\0" not in text


def _open_files() -> list[str]:
    """The model files that this process has open, as the kernel knows them; none where it doesn't tell."""
    found: list[str] = []
    try:
        with os.scandir(OPEN) as entries:
            numbers = [entry.name for entry, _ in zip(entries, range(MAX_OPEN), strict=False)]
    except OSError:
        return found
    for number in numbers:
        try:
            path = os.readlink(f"{OPEN}/{number}")  # noqa: PTH115
        except OSError:
            continue  # closed meanwhile
        if path.endswith(MODEL_SUFFIXES):
            found.append(path)
    return found


def _texts_of_thread(thread: int) -> list[str]:
    """In the code of its running functions; their variables are left alone."""
    return [text for frame in frames_of_thread(thread) for text in _texts_in(frame.f_code.co_consts)]


def _texts_of_main_module() -> list[str]:
    """In its variables, and in the code of its functions."""
    main = sys.modules.get("__main__")
    variables = list(main.__dict__.values())[:MAX_TEXTS] if type(main) is ModuleType else []
    found = list(_texts_in(variables))
    for code in [value.__code__ for value in variables if type(value) is FunctionType]:
        found += _texts_in(code.co_consts)
    return found


def _texts_in(values: Iterable[Any], depth: int = 0) -> Iterator[str]:
    for value in values:
        if type(value) is str:
            yield value
        elif type(value) in PATH_TYPES:
            yield os.fspath(value)
        elif depth < 1 and type(value) in (tuple, list, frozenset):
            yield from _texts_in(list(value)[:MAX_FILES], depth + 1)
        elif depth < 1 and type(value) is dict:
            yield from _texts_in(list(value.values())[:MAX_FILES], depth + 1)
        elif depth < 1 and type(value) is CodeType:
            yield from _texts_in(value.co_consts, depth + 1)
        elif depth < 1 and name_of(type(value)) == "Namespace" and package_of(type(value)) == "argparse":
            yield from _texts_in(list(state_of(value).values()), depth + 1)
