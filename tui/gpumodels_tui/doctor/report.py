"""The results for people, and for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from gpumodels_tui.doctor.findings import Finding, Result, Status, worst

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | None"


def report(results: Sequence[Result]) -> str:
    """Each check by its worst finding first, with next steps below. Ends with a newline."""
    width = max(len(result.id) for result in results)
    lines: list[str] = []
    for result in results:
        for number, finding in enumerate(_worst_first(result)):
            start = f"{finding.status.value}  {result.id if number == 0 else '':<{width}}  "
            lines.append(start + finding.text)
            if finding.next_step is not None:
                lines.append(f"{'':<{len(start)}}-> {finding.next_step}")
    counts = Counter(result.status for result in results)
    summary = [f"{counts[status]} {word}" for status, word in zip(Status, ("passed", "warned", "failed"), strict=True)]
    return "\n".join([*lines, "", f"{len(results)} checks: {', '.join(summary)}."]) + "\n"


def document(results: Sequence[Result]) -> dict[str, Json]:
    """The same as `--json` prints it; it only grows."""
    return {
        "schema": 1,
        "status": worst(result.status for result in results).value,
        "checks": [
            {
                "id": result.id,
                "status": result.status.value,
                "findings": [
                    {"status": one.status.value, "text": one.text, "next_step": one.next_step} for one in result.findings
                ],
            }
            for result in results
        ],
    }


def document_text(results: Sequence[Result]) -> str:
    """The document as one line of ASCII."""
    return json.dumps(document(results), ensure_ascii=True).replace("\x7f", "\\u007f") + "\n"


def _worst_first(result: Result) -> list[Finding]:
    return sorted(result.findings, key=lambda finding: -finding.status.exit_code)
