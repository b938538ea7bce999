"""Finds the Python that runs a ComfyUI, asks it which gpumodels it has, and installs gpumodels into it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from gpumodels.comfyui_pack.comfy_folders import ComfyFolder
from gpumodels.comfyui_pack.running_servers import RunningServer
from gpumodels.version import __version__

ANSWER_SECONDS: Final = 60.0
_ENVIRONMENTS: Final = (".venv", "venv", "env", "python_embeded", "python_embedded", "standalone-env")
"""Virtual environments; the portable version's Python (spelled so); what the desktop app makes its environments from."""
_QUESTION: Final = """
import importlib.util, json, sys
found = {"python": "%d.%d.%d" % sys.version_info[:3], "has_torch": importlib.util.find_spec("torch") is not None}
try:
    import gpumodels
    gpumodels.start
    found["gpumodels"] = gpumodels.__version__
except Exception as error:
    if getattr(error, "name", None) != "gpumodels" or not isinstance(error, ImportError):
        found["trouble"] = type(error).__name__ + ": " + " ".join(str(error).split())
print(json.dumps(found))
"""


class NoPythonError(Exception):
    """Which Python runs this ComfyUI can't be told, or it can't be asked; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class ComfyPython:
    """The Python that runs a ComfyUI, and what it has."""

    path: Path
    found_by: str
    """Why it is this one, for people: "the .venv in its folder"."""
    version: str
    has_torch: bool
    gpumodels: str | None
    """The version of gpumodels that it imports."""
    trouble: str | None
    """Why it can't import the gpumodels that it has."""

    @property
    def needs_gpumodels(self) -> bool:
        """Whether it has none that works, or an older one than the one that runs here."""
        return self.gpumodels is None or _numbers(self.gpumodels) < _numbers(__version__)


def comfy_python(
    folder: ComfyFolder,
    servers: Sequence[RunningServer],
    stated: Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> ComfyPython:
    """The Python of this ComfyUI: the stated one, that of a running server, or the first that there is and that has torch.

    Raises:
        NoPythonError: there is none, or the stated one doesn't run.
    """
    if stated is not None:
        stated = stated.expanduser().absolute()
        return _asked(_executable(stated) or stated, "as given")
    without_torch: ComfyPython | None = None
    failures: list[str] = []
    for path, found_by in _own_pythons(folder, servers):
        if path.suffix == ".exe":
            failures.append(f"{path} is Windows' Python, which is not supported")
            continue
        try:
            answer = _asked(path, found_by)
        except NoPythonError as error:
            failures.append(str(error))
            continue
        if answer.has_torch:
            return answer
        without_torch = without_torch or answer
    if without_torch is not None:
        return without_torch
    for path, found_by in _other_pythons(environment) if not failures else ():
        with suppress(NoPythonError):
            answer = _asked(path, f"assumed, as it has torch: {found_by}")
            if answer.has_torch:
                return answer
    reason = f"{failures[0]}; " if failures else ""
    raise NoPythonError(f"{reason}cannot tell which Python runs {folder.base}; name it with --python")


def install_command(python: ComfyPython) -> list[str] | None:
    """The command that installs into that Python the gpumodels that runs here; None where it has no pip, and there is no uv."""
    wanted = [*(["--force-reinstall"] if python.trouble is not None else []), requirement()]
    if subprocess.run([python.path, "-c", "import pip"], cwd="/", capture_output=True, check=False).returncode == 0:
        return [str(python.path), "-m", "pip", "install", *wanted]
    uv = shutil.which("uv")
    return [uv, "pip", "install", "--python", str(python.path), *wanted] if uv is not None else None


def requirement() -> str:
    """What pip must be asked for to get the gpumodels that runs here, from where this one was installed."""
    try:
        origin = importlib.metadata.distribution("gpumodels").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        origin = None
    if origin is not None:
        given = json.loads(origin)
        parts = urlsplit(given["url"])
        if parts.scheme == "file" and Path(unquote(parts.path)).exists():
            return unquote(parts.path)
        if (version_control := given.get("vcs_info")) is not None:
            return f"gpumodels @ {version_control['vcs']}+{given['url']}@{version_control['commit_id']}"
        if parts.scheme in ("http", "https"):
            return f"gpumodels @ {given['url']}"
    return f"gpumodels=={__version__}"


def _own_pythons(folder: ComfyFolder, servers: Sequence[RunningServer]) -> Iterator[tuple[Path, str]]:
    """Those that run this ComfyUI now, and those in and beside its folder."""
    for server in servers:
        if server.python is not None:
            yield server.python, f"that of the running process {server.pid}"
    own = [folder.base, *([folder.program] if folder.program is not None else [])]
    for around in dict.fromkeys([*own, *(one.parent for one in own), *(one.resolve().parent for one in own)]):
        for name in _ENVIRONMENTS:
            if (python := _executable(around / name)) is not None:
                yield python, f"the {name} {'in' if around in own else 'beside'} its folder"


def _other_pythons(environment: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if (given := environment.get(variable)) and (python := _executable(Path(given))) is not None:
            yield python, "the active environment"
    yield Path(sys.executable), "the one that runs this command"


def _executable(environment: Path) -> Path | None:
    """The Python in the folder of an environment, Windows' included."""
    for name in ("bin/python", "bin/python3", "python.exe", "Scripts/python.exe"):
        if (environment / name).exists():
            return environment / name
    return None


def _asked(python: Path, found_by: str) -> ComfyPython:
    try:
        done = subprocess.run(
            [python, "-c", _QUESTION], cwd="/", capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True
        )
        said = json.loads(done.stdout.splitlines()[-1])
        return ComfyPython(python, found_by, said["python"], said["has_torch"], said.get("gpumodels"), said.get("trouble"))
    except (OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
        raise NoPythonError(f"{python} does not run as Python ({type(error).__name__})") from error


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a release, for comparing; `0.2.0.dev1` counts as 0.2.0."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
