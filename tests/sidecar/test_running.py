from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from gpumodels.launching.hook_files import HOOK
from gpumodels_shared.places import snapshot_files
from launched import OURS, a_folder_with_torch, environment, gpumodels

pytestmark = pytest.mark.slow

SCRIPT = """
import sys, threading
print(__name__, sys.argv[1:], "gpumodels" in [thread.name for thread in threading.enumerate()])
from beside import VALUE
print(VALUE)
if "--fail" in sys.argv:
    raise SystemExit(3)
if "--raise" in sys.argv:
    open("no such file")
"""


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("VALUE = 42")
    return subprocess.run(
        [sys.executable, "-m", "gpumodels", "run", *arguments],
        cwd=tmp_path,
        env={**os.environ, "GPUMODELS_DIR": str(tmp_path / "gpm")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_script_runs_as_python_itself_would_run_it_with_the_sidecar_beside(tmp_path: Path) -> None:
    done = run(tmp_path, "script.py", "--lr", "3")
    assert done.stdout.splitlines() == ["__main__ ['--lr', '3'] True", "42"]
    assert (done.stderr, done.returncode) == ("", 0)
    assert len(snapshot_files(tmp_path / "gpm")) == 1


def test_a_module_runs_too(tmp_path: Path) -> None:
    done = run(tmp_path, "-m", "script", "x")
    assert done.stdout.splitlines() == ["__main__ ['x'] True", "42"]
    assert done.returncode == 0


def test_the_scripts_exit_code_and_exceptions_are_its_own(tmp_path: Path) -> None:
    assert run(tmp_path, "script.py", "--fail").returncode == 3
    raised = run(tmp_path, "script.py", "--raise")
    assert raised.returncode == 1
    assert "FileNotFoundError" in raised.stderr
    assert "no such file" in raised.stderr


def test_a_script_that_is_not_there_is_one_line_that_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "nowhere.py")
    assert done.returncode == 1
    assert done.stderr == "gpumodels: no such script: nowhere.py; usage: gpumodels run script.py ...\n"


SHOWS: Final = "import torch; from says import served; print(served())"


def test_any_command_runs_and_what_comes_from_it_is_its_own(tmp_path: Path) -> None:
    a_folder_with_torch(tmp_path)
    (tmp_path / "serve").write_text(f"#!/bin/sh\nread line; echo \"$line $1\"; {sys.executable} -c '{SHOWS}'; exit 3\n")
    (tmp_path / "serve").chmod(0o755)
    done = gpumodels(tmp_path, "run", "--", "./serve", "--arg", given="typed\n")
    assert (done.stdout, done.stderr, done.returncode) == ("typed --arg\ntorch True\n", "", 3)
    (tmp_path / "serve").write_text(f"{sys.executable} -c '{SHOWS}'\n")  # without `#!`, as shells run it
    assert gpumodels(tmp_path, "run", "./serve").stdout == "torch True\n"


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        (["no-such-command", "x"], 127, "gpumodels: no-such-command: no such command\n"),
        ([""], 127, "gpumodels: the command is empty\n"),
        (["./broken", "x"], 126, "gpumodels: ./broken: can't be executed (Permission denied)\n"),
        (["-m"], 1, "gpumodels: no module named after -m; usage: gpumodels run script.py ...\n"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_a_shells_exit_code(command: list[str], code: int, line: str, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("#!/etc/passwd\n")
    (tmp_path / "broken").chmod(0o755)
    done = gpumodels(tmp_path, "run", *command)
    assert (done.stdout, done.stderr, done.returncode) == ("", line, code)


def test_signals_reach_the_command_and_end_it_as_they_would_without_us(tmp_path: Path) -> None:
    source = "import signal, sys; print(signal.getsignal(signal.SIGPIPE).name, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-m", "gpumodels", "run", sys.executable, "-c", source],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "SIG_IGN\n"  # Python's own doing
        child.terminate()
        assert child.wait() == -signal.SIGTERM
    done = gpumodels(tmp_path, "run", "sh", "-c", "yes | head -n 1; grep SigIgn /proc/self/status")
    without = subprocess.run(
        ["sh", "-c", "yes | head -n 1; grep SigIgn /proc/self/status"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (without.stdout, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGKILL])
def test_a_signal_ends_what_runs_with_the_sidecar_as_it_would_without(number: signal.Signals, tmp_path: Path) -> None:
    (a_folder_with_torch(tmp_path) / "waits.py").write_text("""
import time, torch
from says import served
try:
    print(served(), flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
""")

    def ended(*command: str) -> tuple[str, str, int]:
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            child.send_signal(number)
            out, error = child.communicate(timeout=60)
            return first.replace("True", "False") + out, "".join(error.splitlines()[-1:]), child.returncode

    plain = [sys.executable, "waits.py"]
    without, beside = ended(*plain), ended(sys.executable, "-m", "gpumodels", "run", *plain)
    assert beside == without
    assert beside[2] == -number


def test_the_environment_differs_by_the_hook_alone(tmp_path: Path) -> None:
    plain = {**environment(tmp_path), "LC_ALL": "", "LANG": "C"}
    (tmp_path / "show.sh").write_text("#!/bin/sh\nenv -0\n")
    (tmp_path / "show.sh").chmod(0o755)

    def shown(*command: str) -> dict[str, str]:
        done = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True, timeout=60, check=True)
        return dict(entry.split("=", 1) for entry in done.stdout.split("\0") if "=" in entry)

    without = shown("./show.sh")
    beside = shown(sys.executable, "-m", "gpumodels", "run", "./show.sh")
    assert beside.pop("PYTHONPATH") == f"{HOOK.parent}{os.pathsep}{without.pop('PYTHONPATH')}"
    assert len(beside.pop("_GPUMODELS_PACKAGES").split(os.pathsep)) == 3
    assert beside == without


def test_the_options_given_to_python_are_the_scripts(tmp_path: Path) -> None:
    (tmp_path / "flags.py").write_text("import sys; print(sys.flags.optimize, sys.flags.utf8_mode, sys.argv)")
    done = gpumodels(tmp_path, "run", "flags.py", "-u", options=["-O", "-X", "utf8"])
    assert (done.stdout, done.stderr) == ("1 1 ['flags.py', '-u']\n", "")
    assert gpumodels(tmp_path, "run", "-O", "flags.py").stdout.startswith("1 0 ")


ASKS: Final = "import sys, torch; from says import served; print(served(), sys.argv[1:], sys.stdin.read()); sys.exit(7)"
"""Whether it is served; with its arguments, what it was given, and an exit code of its own."""
SCRIPTS: Final = {
    "ask.py": ASKS,
    "again.py": f"""
import os, sys, torch
if len(sys.argv) == 1:
    os.execv(sys.executable, [sys.executable, *sys.argv, "x"])
{ASKS}
""",
    "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
    "with-env": f"#!/usr/bin/env python\n{ASKS}\n",
    "with-shell": '#!/bin/sh\npython ask.py "$@"; exit $?\n',
    "as-conda-run": """#!/bin/sh
export CONDA_PREFIX=/x
echo '"$@"' > script.sh
. ./script.sh
""",
    "as-pyenvs-shim": """#!/bin/sh
set -e
program="${0##*/}"
export PYENV_ROOT=/x
exec python "$@"
""",
}


@pytest.mark.parametrize(
    "command",
    [
        ["python", "-c", ASKS, "-I"],
        ["python", "-Xdev", "-W", "error", "ask.py", "-E"],
        ["python", "-m", "ask", "-S"],
        ["-c", ASKS, "-I"],
        ["-m", "ask", "-S"],
        ["./python-by-another-name", "ask.py", "-x"],
        ["ask.py", "-x"],
        ["linked.py", "-x"],
        ["./with-env", "-x"],
        ["./with-shell", "-x"],
        ["env", "A=1", "python", "ask.py"],
        ["env", "-u", "A", "python", "ask.py"],
        ["nohup", "python", "ask.py"],
        ["nice", "timeout", "60", "python", "ask.py"],
        ["setsid", "-w", "python", "ask.py"],
        ["sh", "-c", 'exec python ask.py "$@"', "sh", "a b"],
        ["sh", "-c", "cd / && python $OLDPWD/ask.py | cat; exit 7"],
        ["./as-conda-run", "python", "ask.py", "a b"],
        ["./as-pyenvs-shim", "ask.py", "a b"],
        ["python", "again.py"],
    ],
    ids=lambda command: " ".join(command).replace(ASKS, "SOURCE"),
)
def test_what_people_start_programs_with_changes_nothing_but_that_they_are_served(command: list[str], tmp_path: Path) -> None:
    a_folder_with_torch(tmp_path)
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python-by-another-name").symlink_to(sys.executable)
    (tmp_path / "linked.py").symlink_to("ask.py")
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    as_started = command if command[0] not in ("ask.py", "linked.py", "-c", "-m") else [sys.executable, *command]
    without = subprocess.run(
        as_started,
        cwd=tmp_path,
        env=environment(tmp_path, **path),
        input="typed",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    beside = gpumodels(tmp_path, "run", *command, given="typed", more=path)
    assert (without.returncode, "torch False" in without.stdout) == (7, True)
    assert (beside.stdout, beside.stderr) == (without.stdout.replace("torch False", "torch True"), without.stderr)
    assert beside.returncode == without.returncode


@pytest.mark.parametrize("command", [["python", "-"], ["python"], ["-"]])
def test_a_program_that_is_given_on_stdin_is_served(command: list[str], tmp_path: Path) -> None:
    a_folder_with_torch(tmp_path)
    (tmp_path / "python").symlink_to(sys.executable)
    given = "import sys, torch; from says import served; print(served(), sys.argv)"
    done = gpumodels(tmp_path, "run", *command, given=given, more={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})
    assert (done.stdout, done.stderr) == (f"torch True {['-'] if command[-1] == '-' else ['']}\n", "")


@pytest.mark.parametrize(
    ("wrapper", "option", "why"),
    [
        (["nohup"], "-E", "{} -E ignores PYTHONPATH"),
        (["nice", "-n", "1", "timeout", "60"], "-I", "{} -I ignores PYTHONPATH"),
        (["env", "-i"], "-B", "env -i passes no PYTHONPATH on"),
        (["env", "PYTHONPATH=src"], "-B", "env sets another PYTHONPATH"),
    ],
)
def test_behind_a_wrapper_the_line_says_so_too(wrapper: list[str], option: str, why: str, tmp_path: Path) -> None:
    done = gpumodels(tmp_path, "run", *wrapper, sys.executable, option, "-c", "print(1)")
    assert (done.stdout, done.returncode) == ("1\n", 0)
    said = f"gpumodels: {why.format(Path(sys.executable).name)}; the command runs without gpumodels\n"
    assert done.stderr.replace("nohup: ignoring input\n", "") == said


SPAWNS: Final = """
import multiprocessing, sys
def work():
    import torch
    from says import served
    print(served(), flush=True)
if __name__ == "__main__":
    child = multiprocessing.get_context(sys.argv[1]).Process(target=work)
    child.start()
    child.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_children_that_multiprocessing_starts_are_served(method: str, tmp_path: Path) -> None:
    (a_folder_with_torch(tmp_path) / "parent.py").write_text(SPAWNS)
    done = gpumodels(tmp_path, "run", sys.executable, "parent.py", method)
    assert (done.stdout, done.stderr, done.returncode) == ("torch True\n", "", 0)


@pytest.mark.parametrize(
    ("options", "why"), [("-I", "-I ignores PYTHONPATH"), ("-uE", "-E ignores PYTHONPATH"), ("-S", "-S runs no sitecustomize")]
)
def test_where_the_hook_is_ignored_a_line_says_so_and_the_command_runs(options: str, why: str, tmp_path: Path) -> None:
    done = gpumodels(tmp_path, "run", sys.executable, options, "-c", "print(1)")
    assert (done.stdout, done.returncode) == ("1\n", 0)
    assert done.stderr == f"gpumodels: {Path(sys.executable).name} {why}; the command runs without gpumodels\n"


def test_gpumodels_0_leaves_the_command_alone(tmp_path: Path) -> None:
    done = gpumodels(tmp_path, "run", "sh", "-c", "echo $PYTHONPATH", more={"GPUMODELS": "0"})
    assert (done.stdout, done.stderr) == (f"{OURS}\n", "")
