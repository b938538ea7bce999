"""What `gpumodels comfyui install`, `uninstall` and `status` do, and what they say about it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gpumodels.comfyui_pack.comfy_folders import ComfyFolder, NotComfyUIError, comfy_folder
from gpumodels.comfyui_pack.comfy_python import ComfyPython, NoPythonError, comfy_python, install_command, requirement
from gpumodels.comfyui_pack.pack_copies import PACK_NAME, PackCopy, PackOwner, copies_in, pack_version, put, remove
from gpumodels.comfyui_pack.running_servers import RunningServer, running_servers
from gpumodels.version import __version__

_CARE_OF: Final = {
    PackOwner.CHANGED: "move it elsewhere to keep the changes, or delete it",
    PackOwner.GIT: "update or delete it as git's",
    PackOwner.MANAGER: "update or remove it with ComfyUI-Manager or comfy-cli",
    PackOwner.LINK: "delete the link if you don't want it",
    PackOwner.OTHER: "move it elsewhere, or delete it",
}
"""What to do with a copy that isn't ours."""


class CommandError(Exception):
    """The command could not do it; the text is the cause and the next step, in one line."""


class Commands:
    """One command on one ComfyUI. What it says for stdout is in `lines`, also if it fails.

    Raises (from the constructor and all commands):
        CommandError: it could not be done.
    """

    def __init__(self, path: Path, stated_python: Path | None = None) -> None:
        self.lines: list[str] = []
        self._given = path
        self._stated_python = stated_python
        self._folder, self._copies, self._servers = _installation(path)

    def install(self, *, uses_pip: bool) -> None:
        """Put the node pack there, and say whether ComfyUI's Python has gpumodels, or have its pip install it."""
        for copy in self._copies:
            if copy.owner is not PackOwner.OURS:
                raise CommandError(f"{copy.path} {copy.owner.value}, so it stays as it is; {_CARE_OF[copy.owner]}")
        python = self._python() if uses_pip else None
        if python is not None and python.needs_gpumodels:
            self._install_gpumodels(python)
        try:
            self.lines.append(_put(self._folder, self._copies))
        except OSError as error:
            raise _refused(error) from error
        python = self._python()
        self.lines.append(f"ComfyUI's Python is {python.path} ({python.found_by}); it {_what_it_has(python)}")
        if python.needs_gpumodels:
            self.lines += [
                f"install gpumodels {__version__} there, or have this command do so:",
                f"    {shlex.join(install_command(python) or [str(python.path), '-m', 'pip', 'install', requirement()])}",
                f"    {shlex.join(['gpumodels', 'comfyui', 'install', '--pip', str(self._given)])}",
            ]
        elif any(not server.has_sidecar for server in self._servers or ()):
            self.lines.append("restart ComfyUI, which runs without the sidecar")

    def uninstall(self) -> None:
        """Remove the node pack, as far as it is ours."""
        others = [copy for copy in self._copies if copy.owner is not PackOwner.OURS]
        try:
            for copy in self._copies:
                if copy not in others:
                    remove(copy)
                    self.lines.append(f"removed {copy.path}")
        except OSError as error:
            raise _refused(error) from error
        if not self._copies:
            self.lines.append(f"{PACK_NAME} is not in {self._folder.custom_nodes[0]}: nothing to remove")
        elif any(server.has_sidecar for server in self._servers or ()):
            self.lines.append("a ComfyUI that is running keeps its sidecar until it is restarted")
        if others:
            raise CommandError(f"{others[0].path} {others[0].owner.value}, so it stays; {_CARE_OF[others[0].owner]}")

    def status(self) -> None:
        """Say what is installed, into which Python, and whether a running ComfyUI has its sidecar."""
        folder, copies = self._folder, self._copies
        version = f", version {folder.version}" if folder.version is not None else ""
        self.lines.append(f"ComfyUI    {folder.base}{version}")
        self.lines += [_line(copy) for copy in copies] or [f"node pack  not in {folder.custom_nodes[0]}"]
        self.lines += [f"running    {text}" for text in _running(self._servers)]
        try:
            python = self._python()
        except CommandError:
            self.lines.append("Python     unknown")
            raise
        self.lines.append(f"Python     {python.path} (Python {python.version}; {python.found_by})")
        self.lines.append(f"           {_what_it_has(python)}")
        given = shlex.quote(str(self._given))
        if not any(copy.is_enabled for copy in copies):
            disabled = "disabled" if copies else "not installed"
            raise CommandError(f"the node pack is {disabled}; run: gpumodels comfyui install {given}")
        if python.gpumodels is None:
            raise CommandError(f"ComfyUI's Python {_what_it_has(python)}; run: gpumodels comfyui install --pip {given}")

    def _python(self) -> ComfyPython:
        try:
            return comfy_python(self._folder, self._servers or (), self._stated_python)
        except NoPythonError as error:
            raise CommandError(str(error)) from error

    def _install_gpumodels(self, python: ComfyPython) -> None:
        command = install_command(python)
        if command is None:
            raise CommandError(f"{python.path} has no pip, and there is no uv; install {requirement()} there by other means")
        sys.stderr.write(f"{shlex.join(command)}\n")
        sys.stderr.flush()
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
            raise CommandError(
                f"{requirement()} could not be installed into {python.path}: see above; the node pack was not either"
            )


def _installation(path: Path) -> tuple[ComfyFolder, list[PackCopy], list[RunningServer] | None]:
    try:
        folder = comfy_folder(path)
        first, *others = folder.custom_nodes
        if first.is_symlink() and not first.exists():
            raise CommandError(f"{first} is a link to {first.readlink()}, which does not exist")
        copies = [copy for one in (first, *others) if one.is_dir() for copy in copies_in(one)]
        return folder, copies, running_servers(folder.base)
    except NotComfyUIError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise _refused(error) from error


def _put(folder: ComfyFolder, copies: Sequence[PackCopy]) -> str:
    """Have one enabled copy of this version there, where there are none but ours; returns what was done.

    Raises:
        OSError: it can't be written there.
    """
    version = pack_version()
    enabled = next((copy for copy in copies if copy.is_enabled), None)
    custom_nodes = enabled.path.parent if enabled is not None else folder.custom_nodes[0]
    target = custom_nodes / PACK_NAME
    is_current = enabled is not None and (enabled.path, enabled.version) == (target, version)
    if not is_current:
        put(custom_nodes)
    for copy in copies:
        if copy.path != target:
            remove(copy)
    if is_current:
        return f"{PACK_NAME} {version} is already in {custom_nodes}"
    if enabled is not None and enabled.version != version:
        return f"updated {PACK_NAME} from {enabled.version} to {version}: {target}"
    return f"{'enabled' if copies and enabled is None else 'installed'} {PACK_NAME} {version}: {target}"


def _line(copy: PackCopy) -> str:
    state = "enabled" if copy.is_enabled else "disabled"
    return f"node pack  {copy.version or 'of unknown version'}, {state}: {copy.path}, which {copy.owner.value}"


def _what_it_has(python: ComfyPython) -> str:
    if python.trouble is not None:
        return f"has a gpumodels that it cannot import ({python.trouble})"
    if python.gpumodels is None:
        return "has no gpumodels"
    other = f"; this command is of {__version__}" if python.gpumodels != __version__ else ""
    return f"has gpumodels {python.gpumodels}{other}"


def _running(servers: Sequence[RunningServer] | None) -> list[str]:
    if servers is None:
        return ["unknown: this system has no /proc; gpumodels-tui shows it if it has a sidecar"]
    words = {True: "with the sidecar", False: "without the sidecar: restart it once it is installed", None: "of another user"}
    return [f"process {server.pid}, {words[server.has_sidecar]}" for server in servers] or ["no"]


def _refused(error: OSError) -> CommandError:
    where = Path(error.filename2 or error.filename or "")
    if where.name.startswith(f".{PACK_NAME}"):  # the folder that becomes the pack, or was it
        where = where.parent
    return CommandError(f"{where}: {error.strerror}; nothing was changed there" if where.name else str(error))
