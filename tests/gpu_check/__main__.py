"""`make gpu-check`: what gpumodels says on a GPU against what is so, in six minutes at most. Exit code 1 if anything is wrong.

Without a GPU it says so and ends with 0; `--dry-run` runs all that can be run on the simulated accelerator of the tests.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from gpu_check import costs, memory, names, screen, silence
from gpu_check.machine import Clock, Machine, Row, the_machine

SECONDS: Final = 345.0
"""For everything, so that six minutes are enough; names take what the others leave."""
COST_SECONDS: Final = 70.0

Part = Callable[[Machine, Clock], list[Row]]
PARTS: Final[dict[str, Part]] = {
    "memory": lambda machine, _: memory.check(machine),
    "silence": lambda machine, _: silence.check(machine),
    "costs": lambda machine, clock: costs.check(machine, Clock(min(COST_SECONDS, clock.left()))),
    "screen": lambda machine, _: screen.check(machine),
    "names": names.check,
}
VERDICTS: Final = {True: "right", False: "**wrong**", None: "not here"}


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    lines = [f"| {row.part} | {row.what} | {row.found.replace('|', '/')} | {VERDICTS[row.is_right]} |" for row in rows]
    return "\n".join(["| part | what | found | |", "|---|---|---|---|", *lines])


def checked(name: str, machine: Machine, clock: Clock) -> list[Row]:
    """What a part found; where it fails, that."""
    try:
        return PARTS[name](machine, clock)
    except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return [Row(name, "could not be checked", lines[-1], False)]


def main(arguments: Sequence[str]) -> int:
    """Print the table; 0 if nothing is wrong or there is no GPU, else 1."""
    parser = argparse.ArgumentParser("gpu_check", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="on the simulated accelerator")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them: " + ",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long it may take")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.parts.split(",") if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    clock, began = Clock(options.seconds), time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        machine = the_machine(Path(directory), options.dry_run)
        if isinstance(machine, str):
            print(f"gpumodels: nothing checked: {machine}; --dry-run checks on a simulated device", file=sys.stderr)
            return 0
        rows: list[Row] = []
        for name in options.parts.split(","):
            print(f"gpumodels: checking {name} ...", file=sys.stderr, flush=True)
            rows += checked(name, machine, clock)
    print(table(rows))
    wrong = sum(row.is_right is False for row in rows)
    print(f"\n{machine.card}, {time.strftime('%Y-%m-%d', time.gmtime())}, {time.monotonic() - began:.0f} s: ", end="")
    print("nothing is wrong" if not wrong else f"{wrong} lines are wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
