"""The command `gpumodels-tui deploy`: prints the shipped files, or writes them into a directory. It enables nothing."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from gpumodels_tui.deploy.shipped_files import shipped_files
from gpumodels_tui.printing import say, write

if TYPE_CHECKING:
    from gpumodels_tui.sources.opening import Sources

NEXT: Final[Mapping[str, str]] = {
    "grafana": "import it in Grafana (Dashboards, New, Import), and choose your Prometheus there",
    "kubernetes": "put your images in, then: kubectl apply -f gpumodels-metrics.yml",
    "otel": "otelcol-contrib validate --config=collector.yml",
    "prometheus": "promtool check config prometheus.yml",
    "slurm": "name them in slurm.conf: TaskProlog, Epilog",
    "systemd": "copy the units to where their first lines say, then: systemctl daemon-reload; "
    "systemctl enable --now gpumodels-metrics",
}
"""What to do with the files of each purpose, which nobody has done yet."""


def run(sources: Sources, arguments: argparse.Namespace) -> int:
    """Print or write the files. Returns the exit code."""
    files = shipped_files(arguments.purpose)
    if arguments.file is not None:
        only = PurePosixPath(arguments.file)
        if only not in files:
            say(f"error: no file {arguments.file} for {arguments.purpose}; there are: {', '.join(map(str, files))}")
            return 2
        files = {only: files[only]}
    if arguments.into is None:
        write(_joined(files))
        return 0
    try:
        written = _write_below(Path(arguments.into), files)
    except FileExistsError as error:
        say(f"error: {error.filename} is there and differs; remove it, or choose another directory")
        return 1
    except OSError as error:
        say(f"error: cannot write {error.filename or arguments.into}: {error.strerror or error}")
        return 1
    write("".join(f"{path}\n" for path in written))
    say(f"nothing is enabled yet; next: {NEXT[arguments.purpose]}")
    return 0


def _joined(files: Mapping[PurePosixPath, str]) -> str:
    """One file as it is; several with their names between them."""
    if len(files) == 1:
        return next(iter(files.values()))
    return "\n".join(f"# ==== {path}\n{text}" for path, text in files.items())


def _write_below(folder: Path, files: Mapping[PurePosixPath, str]) -> list[Path]:
    """Write those that aren't there yet, and return the paths of all.

    Raises:
        FileExistsError: one is there and differs; then none was written.
        OSError: one can't be written.
    """
    places = {folder / path: text for path, text in files.items()}
    missing = [place for place, text in places.items() if not _is_there(place, text)]
    for place in missing:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("x", encoding="utf-8") as file:
            file.write(places[place])
        place.chmod(0o755 if places[place].startswith("#!") else 0o644)
    return list(places)


def _is_there(place: Path, text: str) -> bool:
    try:
        found = place.read_bytes()
    except FileNotFoundError:
        return False
    if found != text.encode("utf-8"):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))
    return True
