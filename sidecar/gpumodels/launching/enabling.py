"""`gpumodels enable`, `disable` and `status`: whether every Python of an environment runs the hook when it starts.

Two files in the environment do it: a copy of the hook, which does nothing once gpumodels is uninstalled, and a line that runs it:
in a `.pth` file, or from Python 3.15 on in a `.start` file (PEP 829), as `import` lines in `.pth` files will be ignored one day.
Installing gpumodels writes neither.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import stat
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpumodels.launching.hook_files import HOOK
from gpumodels.support.never_pickled import never_pickled

NAME: Final = "_gpumodels_startup"
MODULE: Final = f"{NAME}.py"
FIRST_WITH_START_FILES: Final = (3, 15)
COMMENT: Final = "# Written by `gpumodels enable`; `gpumodels disable` removes it, and {module} with the sha256 {digest}."
LINES: Final = {".pth": f"import {NAME}; {NAME}.install()", ".start": f"{NAME}:install"}
_DIGEST: Final = re.compile(r"\b[0-9a-f]{64}\b")


class EnablingError(Exception):
    """It can't be done; the text says why, and what to do."""


@never_pickled
@dataclass(frozen=True, slots=True)
class Environment:
    """The packages of one Python, where the files go."""

    folder: Path
    version: tuple[int, int]

    @classmethod
    def own(cls) -> Environment:
        """That in which this command is installed."""
        return cls(Path(sysconfig.get_path("purelib")), sys.version_info[:2])

    @property
    def suffix(self) -> str:
        """That of the file whose line this Python runs."""
        return ".start" if self.version >= FIRST_WITH_START_FILES else ".pth"

    def enable(self) -> list[Path]:
        """Write both files, or bring them up to date; returns them.

        Raises:
            EnablingError: somebody else's file is there, or the folder can't be written.
        """
        self._refuse_strangers()
        source = HOOK.read_bytes()
        written = []
        try:
            for file, content in (
                (self.folder / MODULE, source),
                (self._line_file(self.suffix), _line_content(self.suffix, _digest(source)).encode()),
            ):
                _write(file, content)
                written.append(file)
        except OSError as error:
            raise EnablingError(
                f"{self.folder} can't be written ({error.strerror}); enable a virtual environment of yours"
            ) from None
        return written

    def disable(self) -> list[Path]:
        """Remove what `enable` wrote, and what Python compiled of it; returns the files. Others' are left.

        Raises:
            EnablingError: somebody changed a file, or the folder can't be written.
        """
        self._refuse_strangers()
        files = self.files()
        try:
            for file in files:
                if file.name == MODULE:
                    for compiled in _compiled_of(file):
                        compiled.unlink(missing_ok=True)
                file.unlink()
        except OSError as error:
            raise EnablingError(f"{self.folder} can't be written ({error.strerror})") from None
        return files

    def files(self) -> list[Path]:
        """The files that `enable` wrote and that are as it wrote them."""
        found = []
        for suffix in LINES:
            digest = self._stated_digest(suffix)
            if digest is None:
                continue
            found.append(self._line_file(suffix))
            module = self.folder / MODULE
            if module not in found and (content := _content(module)) is not None and _digest(content) == digest:
                found.insert(0, module)
        return found

    def problem(self) -> str | None:
        """Why the hook isn't run although it was enabled, or not as it is in this version; None if all is well."""
        names = [file.name for file in self.files()]
        if MODULE not in names:
            return f"{MODULE} is missing or was changed"
        if f"{NAME}{self.suffix}" not in names:
            return f"this Python reads a {self.suffix} file, and there is none"
        if _content(self.folder / MODULE) != HOOK.read_bytes():
            return "it was written by another version of gpumodels"
        return None

    def _line_file(self, suffix: str) -> Path:
        return self.folder / f"{NAME}{suffix}"

    def _stated_digest(self, suffix: str) -> str | None:
        """The sum of the module in the line file, if that is what `enable` writes."""
        content = _content(self._line_file(suffix))
        found = _DIGEST.search(content.decode("utf-8", "replace")) if content is not None else None
        return found[0] if found is not None and content == _line_content(suffix, found[0]).encode() else None

    def _refuse_strangers(self) -> None:
        known = set(self.files())
        for file in (*map(self._line_file, LINES), self.folder / MODULE):
            if file not in known and os.path.lexists(file):
                raise EnablingError(f"{file} is not as gpumodels enable wrote it; look at it, and remove it yourself")


def _line_content(suffix: str, digest: str) -> str:
    return f"{COMMENT.format(module=MODULE, digest=digest)}\n{LINES[suffix]}\n"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _content(file: Path) -> bytes | None:
    """Of a regular file; None of all else."""
    try:
        return file.read_bytes() if stat.S_ISREG(file.lstat().st_mode) else None
    except OSError:
        return None


def _write(file: Path, content: bytes) -> None:
    """All of it or nothing: a Python that starts meanwhile must not see half a file."""
    descriptor, name = tempfile.mkstemp(prefix=f".{NAME}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), 0o644)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _compiled_of(module: Path) -> list[Path]:
    folder = Path(importlib.util.cache_from_source(str(module))).parent
    return sorted(folder.glob(f"{NAME}.*.pyc"))
