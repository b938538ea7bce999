"""Checks in processes of their own: in order, cut off when they hang, and no harm when they crash."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from gpumodels_tui.doctor.findings import Check, Status, passed
from gpumodels_tui.doctor.running import answer
from machines import a_machine
from processes import run_python

PROGRAM = """
import ctypes, json, os, signal, sys, time
from gpumodels_tui.doctor.findings import Check, passed, warned
from gpumodels_tui.doctor.running import run_checks
from machines import a_machine

def hangs(machine):
    yield passed("not said")
    time.sleep(60)

def hangs_in_c(machine):
    ctypes.PyDLL(None).sleep(60)  # holds the interpreter
    yield passed("not said")

def crashes(machine):
    os.kill(os.getpid(), signal.SIGSEGV)
    yield passed("not said")

def exits(machine):
    os._exit(3)

def raises(machine):
    yield passed("not said")
    raise OSError(5, "broken")

def prints(machine):
    print("noise", flush=True)
    os.write(2, b"noise")
    yield warned("said\\x1b[2J", "do it")

def is_long(machine):
    return [passed("x" * 500)] * 500

def lacks(machine):
    import textual_that_is_not_there
    yield passed("")

checks = [Check(f.__name__, f) for f in (hangs, hangs_in_c, crashes, exits, raises, prints, is_long, lacks)]
began = time.monotonic()
results = run_checks(checks, a_machine(), 0.3)
took = time.monotonic() - began
try:
    os.waitpid(-1, 0)
    left = True
except ChildProcessError:
    left = False
print(json.dumps([took, left, [[r.id, r.status.value, r.findings[0].text, len(r.findings)] for r in results]]))
"""


def outcome() -> Any:
    done = run_python(PROGRAM, environment={"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_what_hangs_is_cut_off_and_what_crashes_is_said_and_the_rest_answers() -> None:
    took, left, results = outcome()
    assert took < 2.5
    assert not left
    cut_off = "unknown: no answer within 0.3 s, so the check was cut off"
    assert results == [
        ["hangs", "WARN", cut_off, 1],
        ["hangs_in_c", "WARN", cut_off, 1],
        ["crashes", "WARN", "unknown: the check was ended by SIGSEGV", 1],
        ["exits", "WARN", "unknown: the check ended with code 3", 1],
        ["raises", "WARN", "unknown: the check itself failed (OSError: [Errno 5] broken)", 1],
        ["prints", "WARN", "said\\x1b[2J", 1],
        ["is_long", "PASS", "x" * 500, 500],
        ["lacks", "FAIL", "textual_that_is_not_there is not installed, which this check needs", 1],
    ]


def test_a_check_that_answers_takes_no_longer_than_it_needs() -> None:
    began = time.monotonic()
    (finding,) = answer(Check("a", lambda machine: [passed("fine")]), a_machine())
    assert (finding.status, finding.text) == (Status.PASS, "fine")
    assert time.monotonic() - began < 1
