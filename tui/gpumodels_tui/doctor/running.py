"""Runs checks, each in a process of its own, so that one that hangs or crashes can be cut off, whatever it hangs in."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from gpumodels_shared.safe_text import safe_text
from gpumodels_tui.doctor.findings import Check, Finding, Result, failed, warned
from gpumodels_tui.doctor.machine import Machine

CHECK_SECONDS: Final = 3.0
"""How long a check may take."""
AT_ONCE: Final = 4
"""How many run at the same time: those that hang wait together."""
READ_BYTES: Final = 65536
MOST_BYTES: Final = 4 * 1024 * 1024

REPORT_IT: Final = "Report it with the file that `gpumodels-tui doctor --bundle FILE.tar.gz` writes."

_FINDINGS: Final = msgspec.msgpack.Decoder(tuple[Finding, ...])


def run_checks(checks: Sequence[Check], machine: Machine, seconds: float = CHECK_SECONDS) -> list[Result]:
    """The results, in the order of the checks. The caller may have no other threads: it is forked."""
    waiting = list(checks)[::-1]
    running: list[_Running] = []
    results: dict[str, Result] = {}
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                running.append(_Running(waiting.pop(), machine, time.monotonic() + seconds))
            until = min(one.deadline for one in running) - time.monotonic()
            ready, _, _ = select.select([one.pipe for one in running], (), (), max(0.0, until))
            for one in list(running):
                findings = one.read() if one.pipe in ready else None
                if findings is None and time.monotonic() >= one.deadline:
                    findings = (_cut_off(seconds),)
                if findings is not None:
                    running.remove(one)
                    one.end()
                    results[one.check.id] = Result(one.check.id, findings)
    finally:
        for one in running:
            one.end()
    return [results[check.id] for check in checks]


def answer(check: Check, machine: Machine) -> tuple[Finding, ...]:
    """What the check finds. An error in it is a finding: nothing is known then."""
    try:
        return tuple(check.run(machine))
    except ModuleNotFoundError as error:
        name = safe_text((error.name or "a module").partition(".")[0])
        return (failed(f"{name} is not installed, which this check needs", "Run: pip install 'gpumodels[tui]'"),)
    except Exception as error:  # noqa: BLE001  # one broken check must not hide the others
        said = safe_text(f"{type(error).__name__}: {error}", 300)
        return (warned(f"unknown: the check itself failed ({said})", REPORT_IT),)


class _Running:
    """A check in a child process that answers through a pipe."""

    def __init__(self, check: Check, machine: Machine, deadline: float) -> None:
        self.check = check
        self.deadline = deadline
        self._answer = b""
        self.pipe, theirs = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _answer_and_end(check, machine, theirs)
        os.close(theirs)

    def read(self) -> tuple[Finding, ...] | None:
        """The findings, if all have arrived by now."""
        if piece := os.read(self.pipe, READ_BYTES):
            self._answer += piece
            if len(self._answer) <= MOST_BYTES:
                return None
        try:
            return _FINDINGS.decode(self._answer)
        except msgspec.DecodeError:
            return (warned(f"unknown: the check {self._how_it_ended()}", REPORT_IT),)

    def end(self) -> None:
        """Kill the process if it still runs. One that the kernel doesn't let go is left behind."""
        os.close(self.pipe)
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            give_up_at = time.monotonic() + 0.2
            while os.waitpid(self._pid, os.WNOHANG) == (0, 0) and time.monotonic() < give_up_at:
                time.sleep(0.001)

    def _how_it_ended(self) -> str:
        pid, self._pid = self._pid, 0
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            return f"was ended by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"ended with code {os.waitstatus_to_exitcode(status)}"


def _answer_and_end(check: Check, machine: Machine, pipe: int) -> None:
    """The child: nothing that is called may print, and nothing of the parent's is flushed or closed."""
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        packed = msgspec.msgpack.encode(_cut(answer(check, machine)))
        while packed:
            packed = packed[os.write(pipe, packed) :]
        code = 0
    finally:
        os._exit(code)


def _cut(findings: Iterable[Finding]) -> list[Finding]:
    """With texts that are safe to print and not too long: they speak of other people's files and processes."""
    return [
        Finding(one.status, safe_text(one.text, 600), None if one.next_step is None else safe_text(one.next_step, 600))
        for one in list(findings)[:1000]
    ]


def _cut_off(seconds: float) -> Finding:
    return warned(f"unknown: no answer within {seconds:g} s, so the check was cut off", "See whether what it asks for hangs.")
