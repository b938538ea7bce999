"""Runs a group in its three processes, side by side, and reads what they recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from host_unchanged.table import MODE_VARIABLE, Mode

LONGEST_SECONDS: Final = 450.0
TESTS: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Recording:
    """What one process recorded in one mode."""

    programs: Mapping[str, Mapping[str, Any]]
    """By program, what it recorded; programs after a crash are missing."""
    exit_code: int
    stderr: str
    stdout: str


def record_group(group: str, directory: Path, environment: Mapping[str, str] | None = None) -> dict[Mode, Recording]:
    """Run the group in all modes, and return the recordings. `environment` is added to that of each."""
    command = [sys.executable, "-m", "host_unchanged.running", group, "../records"]
    ended = run_in_all_modes(command, directory, environment)
    return {
        mode: Recording(_records(directory / mode.value / "records"), each.returncode, each.stderr, each.stdout)
        for mode, each in ended.items()
    }


def run_in_all_modes(
    command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None
) -> dict[Mode, subprocess.CompletedProcess[str]]:
    """Run the command once per mode, all at once, each in an empty directory of its own."""
    children = {}
    for mode in Mode:
        home = directory / mode.value / "home"
        home.mkdir(parents=True)
        children[mode] = subprocess.Popen(
            command,
            cwd=home,
            env={**environment_of(mode, directory / mode.value), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    ended = {}
    try:
        for mode, child in children.items():
            stdout, stderr = child.communicate(timeout=LONGEST_SECONDS)
            ended[mode] = subprocess.CompletedProcess(command, child.returncode, stdout, stderr)
    finally:
        for child in children.values():
            if child.poll() is None:
                child.kill()
                child.wait()
    return ended


def environment_of(mode: Mode, directory: Path) -> dict[str, str]:
    """The environment of a host in this mode, whose files go to the directory."""
    packages = [TESTS]
    for name in ("gpumodels", "gpumodels_shared"):
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        packages.append(Path(spec.origin).parents[1])
    snapshots = directory / "snapshots"
    snapshots.mkdir(mode=0o700)
    return {
        **os.environ,
        MODE_VARIABLE: mode.value,
        "GPUMODELS_DIR": str(snapshots),
        "GLOO_SOCKET_IFNAME": "lo",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        # dill writes a function in more bytes once its module was read from a cache: all modes are to find the same caches.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
        "TMPDIR": _made(directory / "tmp"),
        "TORCHINDUCTOR_CACHE_DIR": _made(directory / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "TQDM_DISABLE": "1",
    }


def _made(directory: Path) -> str:
    directory.mkdir()
    return str(directory)


def _records(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            told = json.loads(line)
            found[told["program"]] = told["record"]
    return found


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """One line for each value that isn't the same in both recordings."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*expected, *found]):
            if key not in expected or key not in found:
                side, value = ("only with", found.get(key)) if key not in expected else ("only without", expected[key])
                yield f"{where}/{key}: {side} it: {_short(value)}"
            else:
                yield from differences(expected[key], found[key], f"{where}/{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from differences(one, other, f"{where}/{index}")
    elif isinstance(expected, list) and isinstance(found, list):
        one_side, other_side = (Counter(json.dumps(each) for each in side) for side in (expected, found))
        for label, items in (("only without", one_side - other_side), ("only with", other_side - one_side)):
            for item, count in items.items():
                yield f"{where}: {label} it, {count} times: {_short(json.loads(item))}"
    elif expected != found:
        yield f"{where}:\n    without: {_short(expected)}\n    with:    {_short(found)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 1200 else f"{text[:600]} … {text[-600:]}"
