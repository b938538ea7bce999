"""`make test-hosts`: public test suites as hosts, each run without the sidecar and beside it; the same tests must pass.

`make test-hosts SUITES="safetensors=DIR peft=DIR accelerate=DIR"`: checkouts of theirs, whose `src` is imported before what is
installed. Of those known by name some files are run, of any other all in its directory. What installed packages ship as tests is
run in any case. Nothing is fetched; tests that need the network fail or are skipped alike both times.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

PLUGINS: Final = Path(__file__).parent
AGAIN: Final = 2
"""How often a test that ended differently is tried again, both ways: some are unsteady by themselves."""

CHECKOUTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "safetensors": (
        "bindings/python",
        ("handle", "multithreaded", "pread_backend", "pt_comparison", "pt_model", "simple", "threadable"),
    ),
    "peft": ("", ("bufferdict", "low_level_api", "mapping", "mixed", "other")),
    "accelerate": ("", ("big_modeling", "hooks", "modeling_utils", "offload", "utils")),
}
"""Where their tests are run from, and which of them: what runs offline, soon, and does what a sidecar might disturb."""

INSTALLED: Final[Mapping[str, tuple[str, ...]]] = {
    "joblib": ("joblib/test/test_hashing.py", "joblib/test/test_numpy_pickle.py"),
    "torch": ("torch/fx/passes/tests/test_pass_manager.py",),
    "numpy": ("numpy/lib/tests/test_format.py", "numpy/_core/tests/test_memmap.py"),
}
"""Tests that the packages bring with them."""


@dataclass(frozen=True, slots=True)
class Suite:
    """What one run of pytest takes."""

    name: str
    root: Path
    """What its tests' names are relative to."""
    tests: tuple[str, ...]
    """Files and directories below it."""
    sources: Path | None = None
    """To be imported from before what is installed."""
    is_checkout: bool = False
    """Run in its root, with its own settings; what is installed is run elsewhere."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How it went."""

    outcomes: Mapping[str, str]
    beside: Mapping[str, object] | None
    """What the sidecar said at the end, where it was there."""
    last_line: str

    def counts(self) -> str:
        """`34 passed, 1 failed`."""
        return ", ".join(f"{count:,} {outcome}" for outcome, count in Counter(self.outcomes.values()).most_common()) or "nothing"


def main() -> int:
    """Run all suites; 1 where one of them is another with the sidecar beside it."""
    parser = argparse.ArgumentParser(prog="make test-hosts", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="NAME=DIR", help="a checkout, or a file or directory of tests")
    parser.add_argument("--no-installed", action="store_true", help="leave out what installed packages ship")
    chosen = parser.parse_args()
    suites = [] if chosen.no_installed else installed()
    for one in chosen.suites:
        name, _, path = one.partition("=")
        if not path or not Path(path).exists():
            parser.error(f"{one}: no such directory; name a checkout, as in peft=/src/peft")
        suites.append(checkout(name, Path(path).absolute()))
    same = [compared(suite) for suite in suites]
    return 0 if all(same) else 1


def installed() -> list[Suite]:
    """Those of the packages that are there."""
    suites = []
    for name, files in INSTALLED.items():
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        root = Path(spec.origin).parents[1]
        there = tuple(file for file in files if (root / file).exists())
        if there:
            suites.append(Suite(f"{name} {metadata.version(name)} (installed)", root, there))
    return suites


def checkout(name: str, path: Path) -> Suite:
    """One that the user has."""
    title = f"{name} {version_of(path if path.is_dir() else path.parent)}".strip()
    folder, known = CHECKOUTS.get(name, ("", ()))
    root = path / folder if path.is_dir() else path.parent
    files = tuple(file for one in known if path.is_dir() and (root / (file := f"tests/test_{one}.py")).exists())
    sources = root / "src"
    own = sources if any(sources.glob("*/__init__.py")) else None  # what is compiled is imported as it is installed
    tests = files or (("." if path.is_dir() else path.name),)
    return Suite(title, root, tests, own, is_checkout=True)


def version_of(directory: Path) -> str:
    """The commit, where git knows it."""
    command = ["git", "-C", str(directory), "describe", "--always", "--tags", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def compared(suite: Suite) -> bool:
    """Whether the same tests end the same way; says so in one line, and each that doesn't in one of its own."""
    print(f"{suite.name}: without …", end=" ", flush=True)
    without = run(suite, beside=False)
    print(f"{without.counts()}; with … ", end="", flush=True)
    beside = run(suite, beside=True)
    print(beside.counts(), flush=True)
    if not without.outcomes:
        print(f"  nothing ran: {without.last_line}")
        return False
    if beside.beside is None or not (beside.beside["alive"] and beside.beside["published"]):
        print(f"  the sidecar did not run to the end: {beside.beside or beside.last_line}")
        return False
    print(f"  the sidecar published {beside.beside['published']} snapshots, and counted {beside.beside['failures']} failures")
    different = [test for test in {**without.outcomes, **beside.outcomes} if not is_same(suite, test, without, beside)]
    for test in different:
        print(f"  {test}: {without.outcomes.get(test, 'not there')} without, {beside.outcomes.get(test, 'not there')} with it")
    return not different and not beside.beside["failures"]


def is_same(suite: Suite, test: str, without: Ran, beside: Ran) -> bool:
    """Whether it ended alike, or ends both ways by itself."""
    ends = {without.outcomes.get(test)}, {beside.outcomes.get(test)}
    for _ in range(AGAIN):
        if ends[0] & ends[1]:
            break
        for end, is_beside in zip(ends, (False, True), strict=True):
            end.add(run(suite, is_beside, (test,)).outcomes.get(test))
    if len(ends[0] | ends[1]) > 1 and ends[0] & ends[1]:
        print(f"  {test}: unsteady, {sorted(map(str, ends[0]))} without, {sorted(map(str, ends[1]))} with it")
    return bool(ends[0] & ends[1])


def run(suite: Suite, beside: bool, only: Sequence[str] = ()) -> Ran:
    """Once, in a process and a directory for snapshots of its own."""
    plugins = ("outcomes_kept", *(("gpumodels_beside",) if beside else ()))
    arguments = [f"--rootdir={suite.root}", *(str(suite.root / test) for test in only or suite.tests)]
    with tempfile.TemporaryDirectory(prefix="gpumodels-hosts-") as place:
        outcomes, told, snapshots = (Path(place) / name for name in ("outcomes.json", "beside.json", "snapshots"))
        snapshots.mkdir(mode=0o700)
        paths = [suite.sources, PLUGINS, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(path) for path in paths if path is not None),
            "PYTHONHASHSEED": "0",
            "HF_HUB_OFFLINE": "1",
            "GPUMODELS_DIR": str(snapshots),
            "GPUMODELS_OUTCOMES": str(outcomes),
            "GPUMODELS_BESIDE": str(told),
        }
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "addopts=",
            "--continue-on-collection-errors",
        ]
        command += [word for plugin in plugins for word in ("-p", plugin)]
        done = subprocess.run(
            [*command, *arguments],
            cwd=suite.root if suite.is_checkout else place,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        lines = (done.stdout + done.stderr).strip().splitlines()
        return Ran(
            json.loads(outcomes.read_text()) if outcomes.exists() else {},
            json.loads(told.read_text()) if told.exists() else None,
            lines[-1] if lines else "",
        )


if __name__ == "__main__":
    sys.exit(main())
