"""Commands that run another one."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from gpumodels.launching.wrappers import Wrapped, unwrapped

PROGRAM = ["python", "-I", "-n", "5", "A=1"]


@pytest.mark.parametrize(
    "wrapper",
    [
        [],
        ["nohup"],
        ["setsid", "-f", "-w"],
        ["nice"],
        ["nice", "-n", "5"],
        ["nice", "-n5"],
        ["nice", "-5"],
        ["/usr/bin/nice", "--adjustment", "5"],
        ["nice", "--adjustment=5", "--"],
        ["ionice", "-c", "2", "-n", "7"],
        ["ionice", "-c2", "-t"],
        ["stdbuf", "-oL", "-e", "0"],
        ["time", "-v", "-o", "times.txt"],
        ["timeout", "20"],
        ["timeout", "-k", "5", "-s", "INT", "20"],
        ["timeout", "--foreground", "--kill-after=5", "--signal", "INT", "--", "20"],
        ["taskset", "-c", "0-3"],
        ["taskset", "0x3"],
        ["chrt", "-b", "0"],
        ["numactl", "--cpunodebind=0", "--membind", "0"],
        ["numactl", "-N", "0", "-m", "0"],
        ["env"],
        ["env", "--"],
        ["env", "-C", "/tmp", "-u", "A", "--unset=B", "C=1", "D=x y"],
        ["env", "-uA", "-v"],
        ["env", "A=1", "nohup", "nice", "timeout", "-s9", "5"],
        ["env", "PYTHONPATH=/x:/site/gpumodels/launching/hook"],
    ],
)
def test_what_runs_in_the_end(wrapper: list[str]) -> None:
    assert unwrapped([*wrapper, *PROGRAM]) == Wrapped(PROGRAM)


def test_what_env_splits_is_its_command() -> None:
    for words in (["-S", "A=1 python -I"], ["-SA=1 python -I"], ["-vS", "python -I"], ["--split-string=python -I"]):
        assert unwrapped(["env", *words, "x.py"]).words == ["python", "-I", "x.py"]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["env", "-i", "python"], "env -i passes no PYTHONPATH on"),
        (["env", "-", "python"], "env -i passes no PYTHONPATH on"),
        (["env", "-iu", "A", "python"], "env -i passes no PYTHONPATH on"),
        (["nice", "env", "--ignore-environment", "python"], "env -i passes no PYTHONPATH on"),
        (["env", "-u", "PYTHONPATH", "python"], "env -u removes PYTHONPATH"),
        (["env", "-uPYTHONPATH", "python"], "env -u removes PYTHONPATH"),
        (["env", "--unset=PYTHONPATH", "python"], "env -u removes PYTHONPATH"),
        (["env", "PYTHONPATH=src", "python"], "env sets another PYTHONPATH"),
        (["env", "-S", "PYTHONPATH=src python"], "env sets another PYTHONPATH"),
        (["docker", "run", "image", "python"], "docker passes no PYTHONPATH on"),
        (["timeout", "9", "ssh", "host", "python"], "ssh passes no PYTHONPATH on"),
        (["systemd-run", "--user", "python"], "systemd-run passes no PYTHONPATH on"),
        (["systemd-run", "--user", "--scope", "python"], None),
    ],
)
def test_what_keeps_the_hook_from_the_command_is_said(command: list[str], why: str | None) -> None:
    assert unwrapped(command).why_unseen == why


@pytest.mark.parametrize("command", [["env"], ["nice", "-n"], ["timeout", "5"], ["nohup"], ["env", "A=1"], ["env", "-S"]])
def test_a_wrapper_without_a_command_runs_nothing(command: list[str]) -> None:
    assert unwrapped(command).words == []


@pytest.mark.parametrize(
    "wrapper", [["nice", "-n", "1"], ["timeout", "-s", "INT", "20"], ["env", "-u", "A", "B=1"], ["stdbuf", "-oL"]]
)
def test_the_real_ones_agree(wrapper: list[str]) -> None:
    if shutil.which(wrapper[0]) is None:
        pytest.skip(f"no {wrapper[0]} here")
    program = ["echo", "-n", "5"]
    assert unwrapped([*wrapper, *program]).words == program
    assert subprocess.run([*wrapper, *program], capture_output=True, text=True, timeout=20, check=True).stdout == "5"
