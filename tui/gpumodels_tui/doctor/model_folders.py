"""Checks of the catalogue: the model folders, the file that keeps what was read of them, and the kernel's limits for watching."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gpumodels_tui.doctor.findings import Finding, passed, warned
from gpumodels_tui.doctor.machine import Machine

COUNT_SECONDS: Final = 1.5
"""How long directories are counted."""
LIMITS: Final = Path("sys") / "fs" / "inotify"


def folders(machine: Machine) -> Iterator[Finding]:
    """Whether the model folders are there and can be read."""
    for text in machine.sources.warnings:
        yield warned(text, "Correct the file.")
    for folder in machine.sources.model_directories:
        try:
            with os.scandir(folder) as entries:
                next(entries, None)
        except OSError as error:
            yield warned(
                f"{folder}: {(error.strerror or str(error)).lower()}", "Correct --models, GPUMODELS_MODELS or config.toml."
            )
        else:
            yield passed(f"{folder} can be read")
    if not machine.sources.model_directories:
        yield passed("no model folders were chosen or found; the files that snapshots name are read")


def cache(machine: Machine) -> Iterator[Finding]:
    """Whether what was read of model files is kept."""
    path = machine.sources.cache
    if path is None:
        yield passed("nothing is kept between runs")
        return
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        nearest = next(one for one in path.parents if os.path.lexists(one))
        if os.access(nearest, os.W_OK | os.X_OK):
            yield passed(f"{path} doesn't exist yet")
        else:
            yield warned(f"{path} can't be made, so all model files are read at each start", f"Let your user write in {nearest}.")
        return
    if not stat.S_ISREG(status.st_mode) or status.st_uid != machine.uid or status.st_mode & 0o022:
        yield warned(f"{path} is not your own file, so it isn't used", f"Remove {path}.")
        return
    import sqlite3

    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)
        try:
            (count,) = connection.execute("SELECT count(*) FROM headers").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        yield warned(f"{path}: {error}", "See whether another viewer holds it; without it, model files are read at each start.")
    except sqlite3.DatabaseError as error:
        yield warned(f"{path} is damaged ({error})", "Start the viewer once, which removes it and makes it anew.")
    else:
        yield passed(f"{path} keeps the headers of {count} files, {status.st_size // 1024} KB")


def inotify(machine: Machine) -> Iterator[Finding]:
    """Whether the kernel lets all directories below the model folders be watched."""
    limits = machine.proc / LIMITS
    try:
        watches, instances = (int((limits / f"max_user_{what}").read_text()) for what in ("watches", "instances"))
    except OSError:
        yield passed("this system has no inotify; model folders are polled or watched by other means")
        return
    directories, is_complete = _count(machine.sources.model_directories)
    shown = f"{directories}{'' if is_complete else ' or more'} directories of model folders"
    needed = len(machine.sources.model_directories) + 1
    if directories > watches:
        yield warned(
            f"{shown}, but fs.inotify.max_user_watches is {watches}: the rest is polled",
            f"Run: sudo sysctl fs.inotify.max_user_watches={_next_power_of_two(2 * directories)}",
        )
    else:
        yield passed(f"{shown}, and fs.inotify.max_user_watches is {watches}, for all programs of yours together")
    if needed > instances:
        yield warned(
            f"up to {needed} model folders are watched one by one, but fs.inotify.max_user_instances is {instances}",
            f"Run: sudo sysctl fs.inotify.max_user_instances={_next_power_of_two(2 * needed)}",
        )


def _count(folders: tuple[Path, ...]) -> tuple[int, bool]:
    """How many directories there are, and whether that is all of them."""
    give_up_at = time.monotonic() + COUNT_SECONDS
    count = 0
    waiting = [str(folder) for folder in folders if folder.is_dir()]
    while waiting:
        if time.monotonic() > give_up_at:
            return count + len(waiting), False
        count += 1
        try:
            with os.scandir(waiting.pop()) as entries:
                waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
    return count, True


def _next_power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
