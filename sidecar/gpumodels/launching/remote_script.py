"""The script that a live process runs when gpumodels is attached to it, and the private folder that it and its answer are in."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from gpumodels.launching.hook_files import HOOK, package_folders
from gpumodels.support.never_pickled import never_pickled

SCRIPT: Final = "script.py"
ANSWER: Final = "answer"
LATE: Final = "late"
"""Stands in the folder once nobody waits for the answer: then the script removes the folder itself."""
LONGEST_ANSWER: Final = 200
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_EPILOGUE: Final = """
import os

def clean():
    for name in ("script.py", "answer", "late", "answer.new"):
        try:
            os.unlink(os.path.join(FOLDER, name))
        except OSError:
            pass
    os.rmdir(FOLDER)

try:
    scope = {"__name__": "gpumodels_attach"}
    exec(compile(SOURCE, "<gpumodels>", "exec"), scope)
    answer = scope["attach"](PACKAGES)
except KeyboardInterrupt:
    raise
except BaseException as error:
    answer = "failed: " + type(error).__name__
try:
    if os.path.exists(os.path.join(FOLDER, "late")):
        clean()
    else:
        descriptor = os.open(os.path.join(FOLDER, "answer.new"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, answer.encode())
        os.close(descriptor)
        os.rename(os.path.join(FOLDER, "answer.new"), os.path.join(FOLDER, "answer"))
        if os.path.exists(os.path.join(FOLDER, "late")):
            clean()
except OSError:
    pass
"""


@never_pickled
class RemoteScript:
    """A folder of mode 0700 with the script in it, mode 0600, both the target's; removed at the end, or by the script itself.

    All is done relative to descriptors: the target's temporary folder may be under other people's control.
    """

    def __init__(self, root: Path, folder: Path, uid: int, gid: int) -> None:
        """Args:
            root: The target's root directory, as this process sees it.
            folder: The temporary folder, as the target sees it.
            uid: Whom it belongs to.
            gid: The group that it belongs to.

        Raises:
            OSError: it can't be made.
        """
        self._name = f"gpumodels-attach-{secrets.token_hex(8)}"
        self.path = folder / self._name / SCRIPT
        """As the target sees it."""
        self._parent = os.open(root / folder.relative_to(folder.anchor), _DIRECTORY)
        try:
            os.mkdir(self._name, 0o700, dir_fd=self._parent)
            self._folder = os.open(self._name, _DIRECTORY, dir_fd=self._parent)
        except BaseException:
            os.close(self._parent)
            raise
        scope = f"FOLDER = {str(self.path.parent)!r}\nPACKAGES = {package_folders()!r}\nSOURCE = {HOOK.read_text('utf-8')!r}\n"
        descriptor = os.open(SCRIPT, _NEW, 0o600, dir_fd=self._folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            # In a scope of its own: a script may be run in the namespace of somebody else.
            stream.write(f"exec(compile({scope + _EPILOGUE!r}, '<gpumodels>', 'exec'), {{}})\n")
            if uid != os.geteuid():
                os.fchown(stream.fileno(), uid, gid)
        if uid != os.geteuid():
            os.fchown(self._folder, uid, gid)

    def answer(self) -> str | None:
        """What the script said, once it has run."""
        try:
            descriptor = os.open(ANSWER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(LONGEST_ANSWER).decode("utf-8", "replace")

    def leave(self) -> None:
        """Wait no longer: the script starts the sidecar whenever it runs, and removes the folder."""
        with contextlib.suppress(OSError):
            os.close(os.open(LATE, _NEW, 0o644, dir_fd=self._folder))
        if self.answer() is not None:
            self.remove()
        else:
            self._close()

    def remove(self) -> None:
        """Remove the folder."""
        for name in (SCRIPT, ANSWER, LATE):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._folder)
        with contextlib.suppress(OSError):
            os.rmdir(self._name, dir_fd=self._parent)
        self._close()

    def _close(self) -> None:
        os.close(self._folder)
        os.close(self._parent)
