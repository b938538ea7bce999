"""`gpumodels attach PID`: starts the sidecar in a live process by `sys.remote_exec`, which Python has from 3.14 on.

Below 3.14 there is no safe way: what ptrace and gdb do in the midst of a call crashes targets, so it isn't tried.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from gpumodels.launching.remote_script import RemoteScript
from gpumodels.support.never_pickled import never_pickled

FIRST_WITH_REMOTE_EXEC: Final = (3, 14)
SAY_SECONDS: Final = 1.0
"""When it is said that the process lets us wait."""
POLL_SECONDS: Final = 0.02
ANSWER_SECONDS: Final = 20.0
INSTEAD: Final = (
    "start it with: gpumodels run COMMAND, or put `import gpumodels.auto` into its code, "
    "or run gpumodels enable in its environment, and restart it"
)
DISABLING: Final = "PYTHON_DISABLE_REMOTE_DEBUG"
DISABLING_OPTION: Final = "disable-remote-debug"
_VERSION: Final = re.compile(r"(?:lib)?python(\d+)\.(\d+)")


class AttachError(Exception):
    """The sidecar can't be started there; the text says why, and what to do instead."""


@never_pickled
@dataclass(frozen=True, slots=True)
class Target:
    """A process, as the kernel shows it."""

    pid: int
    uid: int
    gid: int
    executable: Path
    is_reachable: bool
    """Whether the executable of that path is the process's own: in a container it may be another one."""
    shares_root: bool
    version: tuple[int, int] | None

    @classmethod
    def of(cls, pid: int, proc: Path = Path("/proc")) -> Target:
        """What is known of the process.

        Raises:
            AttachError: there is no such process, or it may not be looked at.
        """
        own = proc / str(pid)
        try:
            ids = dict(re.findall(r"^([UG])id:\s+\d+\s+(\d+)", (own / "status").read_text("utf-8"), re.MULTILINE))
            executable = (own / "exe").readlink()
            is_reachable = executable.exists() and executable.samefile(own / "exe")
            shares_root = (own / "root").samefile("/")
        except FileNotFoundError:
            raise AttachError(f"there is no process {pid} here") from None
        except PermissionError:
            advice = "not even by root" if os.geteuid() == 0 else f"run: sudo gpumodels attach {pid}"
            raise AttachError(f"process {pid} may not be looked at from here; {advice}") from None
        target = cls(pid, int(ids["U"]), int(ids["G"]), executable, is_reachable, shares_root, None)
        version = target.named_version(proc) or (target.asked_version() if target.may_run_executable else None)
        return cls(pid, target.uid, target.gid, executable, is_reachable, shares_root, version)

    @property
    def may_run_executable(self) -> bool:
        """Whether it is safe: root runs nothing that belongs to others."""
        status = self.executable.stat() if self.is_reachable else None
        return status is not None and status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

    def named_version(self, proc: Path) -> tuple[int, int] | None:
        """The version in the name of the executable, or of the library that it has mapped."""
        names = [self.executable.name]
        try:
            maps = (proc / str(self.pid) / "maps").read_text("utf-8", "replace")
            names += {Path(line.split(None, 5)[5]).name for line in maps.splitlines() if "libpython" in line}
        except (OSError, IndexError):
            pass
        found = [match for name in names if (match := _VERSION.match(name))]
        return (int(found[0][1]), int(found[0][2])) if found else None

    def asked_version(self) -> tuple[int, int] | None:
        """What its executable says, if that is a Python."""
        if "python" not in self.executable.name:
            return None
        told = _run([str(self.executable), "-I", "-S", "-c", "import sys; print(*sys.version_info[:2])"])
        numbers = told.stdout.split() if told is not None else []
        return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 and all(map(str.isdecimal, numbers)) else None

    def refusal(self, proc: Path = Path("/proc")) -> str | None:
        """Why nothing can be run in it, as far as that is known beforehand."""
        if self.version is None:
            return f"process {self.pid} ({self.executable.name}) is no Python that can be recognised; {INSTEAD}"
        if self.version < FIRST_WITH_REMOTE_EXEC:
            return (
                f"process {self.pid} runs Python {self.version[0]}.{self.version[1]}; only from 3.14 on can a running process be "
                f"attached to without danger for it; {INSTEAD}"
            )
        cause = self._disabled_by(proc / str(self.pid))
        return f"process {self.pid} does not allow it ({cause}); {INSTEAD}" if cause else None

    def _disabled_by(self, own: Path) -> str | None:
        try:
            environment = (own / "environ").read_bytes().split(b"\0")
            words = (own / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return None
        if any(entry.startswith(f"{DISABLING}=".encode()) and not entry.endswith(b"=") for entry in environment):
            return f"{DISABLING} is set"
        option = DISABLING_OPTION.encode()
        if b"-X" + option in words or any(pair == (b"-X", option) for pair in pairwise(words)):
            return f"-X {DISABLING_OPTION}"
        return None


def attach(
    pid: int,
    timeout_seconds: float,
    say: Callable[[str], None],
    execute: Callable[[Target, Path], None] | None = None,
    proc: Path = Path("/proc"),
) -> str:
    """Start the sidecar in this process, and return what came of it, in a line for the user.

    Args:
        pid: the process.
        timeout_seconds: how long to wait for it.
        say: called with a line if there is something to wait for.
        execute: has the target run a script; `remote_exec` by default.
        proc: where the kernel shows processes.

    Raises:
        AttachError: it can't be done, or the process didn't run the script in time.
    """
    if not proc.is_dir():
        raise AttachError(f"this system has no /proc, without which processes can't be checked; {INSTEAD}")
    target = Target.of(pid, proc)
    if (refusal := target.refusal(proc)) is not None:
        raise AttachError(refusal)
    root, folder = (Path("/"), Path(tempfile.gettempdir())) if target.shares_root else (proc / str(pid) / "root", Path("/tmp"))
    try:
        script = RemoteScript(root, folder.resolve() if target.shares_root else folder, target.uid, target.gid)
    except OSError as error:
        raise AttachError(f"no script can be put into {folder} for process {pid} ({error.strerror})") from None
    try:
        (execute or remote_exec)(target, script.path)
    except BaseException:
        script.remove()
        raise
    try:
        answer = _wait(script, pid, timeout_seconds, say, proc)
    except BaseException:
        script.leave()
        raise
    script.remove()
    return _in_words(answer, pid)


def remote_exec(target: Target, script: Path) -> None:
    """Have the target run the script at its next safe point. Asks by the target's own Python if versions differ.

    Raises:
        AttachError: the kernel or the target doesn't allow it.
    """
    own = getattr(sys, "remote_exec", None)
    try:
        if own is not None and target.version == sys.version_info[:2]:
            own(target.pid, str(script))
            return
        if not target.may_run_executable:
            raise AttachError(
                f"process {target.pid} runs another version of Python than this command, and its own, {target.executable}, may "
                f"not be run from here; {INSTEAD}"
            )
    except (OSError, RuntimeError) as error:
        raise AttachError(_why_refused(target.pid, f"{type(error).__name__}: {error}")) from None
    call = "import sys; sys.remote_exec(int(sys.argv[1]), sys.argv[2])"
    done = _run([str(target.executable), "-I", "-S", "-c", call, str(target.pid), str(script)])
    if done is None or done.returncode:
        raise AttachError(_why_refused(target.pid, done.stderr.strip().rpartition("\n")[2] if done is not None else "no answer"))


def _wait(script: RemoteScript, pid: int, timeout_seconds: float, say: Callable[[str], None], proc: Path) -> str:
    began, has_said = time.monotonic(), False
    while (answer := script.answer()) is None:
        waited = time.monotonic() - began
        if not (proc / str(pid)).exists():
            raise AttachError(f"process {pid} has ended")
        if waited >= timeout_seconds:
            raise AttachError(
                f"process {pid} has reached no safe point in {timeout_seconds:g} s: its main thread waits, or is in a long call; "
                "the sidecar starts by itself as soon as it runs Python code again"
            )
        if waited >= SAY_SECONDS and not has_said:
            has_said = True
            say(f"waiting until the main thread of process {pid} runs Python code, for {timeout_seconds:g} s at most")
        time.sleep(POLL_SECONDS)
    return answer


def _in_words(answer: str, pid: int) -> str:
    if answer == "started":
        return f"the sidecar runs in process {pid}; what was loaded before was not seen, so some names may stay unknown"
    if answer == "running":
        return f"the sidecar was running in process {pid} already"
    if answer == "off":
        raise AttachError(f"GPUMODELS=0 is set in process {pid}, which keeps the sidecar off")
    raise AttachError(f"the sidecar did not start in process {pid} ({answer[:80]!r}); see the log of gpumodels there")


def _why_refused(pid: int, error: str) -> str:
    if "PermissionError" in error or "not permitted" in error:
        return f"the kernel lets only root do that (kernel.yama.ptrace_scope); run: sudo gpumodels attach {pid}"
    if "emote debugging is not" in error:
        return f"process {pid} does not allow it (its Python was built or started without remote debugging); {INSTEAD}"
    return f"process {pid} could not be attached to ({error[:200]}); {INSTEAD}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
