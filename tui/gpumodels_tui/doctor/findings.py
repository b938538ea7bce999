"""What a check found: passed, a warning or a failure, in a sentence, and the next step in another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from gpumodels_tui.doctor.machine import Machine


class Status(str, Enum):
    """How a check ended; `--json` contains these values. Not an `enum.StrEnum`, which needs Python 3.11."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"

    @property
    def exit_code(self) -> int:
        """The command's, if this is the worst."""
        return list(Status).index(self)


class Finding(Struct, frozen=True):
    """One thing that a check found."""

    status: Status
    text: str
    next_step: str | None = None
    """What to do, in one sentence; None where nothing is to be done."""


class Check(Struct, frozen=True):
    """A question about this machine."""

    id: str
    """Stays the same: scripts and bug reports name it."""
    run: Callable[[Machine], Iterable[Finding]]
    """Says at least one thing."""


class Result(Struct, frozen=True):
    """A check's answer."""

    id: str
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Status:
        """The worst."""
        return worst(finding.status for finding in self.findings)


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of them; PASS if there is none."""
    return max(statuses, key=lambda status: status.exit_code, default=Status.PASS)


def passed(text: str) -> Finding:
    """All is well, or nothing can be done about it."""
    return Finding(Status.PASS, text)


def warned(text: str, next_step: str) -> Finding:
    """Something is missing or unusual, while the rest works."""
    return Finding(Status.WARN, text, next_step)


def failed(text: str, next_step: str) -> Finding:
    """Something can't work as it is."""
    return Finding(Status.FAIL, text, next_step)
