"""Builders for the doctor's tests: a machine with chosen directories, and what a check finds on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from gpumodels_tui.doctor.findings import Finding
from gpumodels_tui.doctor.machine import Machine
from gpumodels_tui.sources.opening import Sources


def a_machine(
    *directories: Path,
    models: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    terminal: tuple[int, int] | None = (120, 40),
    cache: Path | None = None,
    warnings: Sequence[str] = (),
    proc: Path = Path("/proc"),
    dev: Path = Path("/dev/none"),
) -> Machine:
    """This machine, with the snapshots in these directories; without a directory, with the default ones of the environment."""
    sources = Sources(tuple(directories) or None, tuple(models), cache=cache, warnings=tuple(warnings))
    return Machine(sources, {} if environment is None else environment, terminal, proc, dev)


def found(check: Callable[[Machine], Iterable[Finding]], machine: Machine) -> list[tuple[str, str]]:
    """Status and text of everything that the check says; each warning and each failure has a next step."""
    findings = list(check(machine))
    assert findings
    for finding in findings:
        assert (finding.next_step is None) == (finding.status.value == "PASS"), finding
        assert finding.text == finding.text.strip()
        assert finding.next_step is None or finding.next_step.endswith((".", "]'")) or ": " in finding.next_step
    return [(finding.status.value, finding.text) for finding in findings]


def statuses(check: Callable[[Machine], Iterable[Finding]], machine: Machine) -> list[str]:
    """Of everything that the check says."""
    return [status for status, _ in found(check, machine)]
