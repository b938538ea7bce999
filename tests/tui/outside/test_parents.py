"""Tests of the processes above a process."""

from __future__ import annotations

import os
import sys

import pytest

from gpumodels_tui.outside.parents import command_of, is_worker, parents_of
from model_readers import reading


def test_the_parent_of_a_process_is_known_with_its_command() -> None:
    with reading("open") as pid:
        parent, command = next(parents_of(pid))
        assert parent == os.getpid()
        assert command == command_of(os.getpid())
        assert command_of(pid)[0] == sys.executable
    assert list(parents_of(pid)) == []
    assert command_of(pid) == ()


@pytest.mark.parametrize(
    ("command", "is_one"),
    [
        (("VLLM::EngineCore",), True),
        (("sglang::scheduler_TP0", ""), True),
        (("python", "-c", "from multiprocessing.spawn import spawn_main; spawn_main(1)", "--multiprocessing-fork"), True),
        (("python", "main.py", "a::b"), False),
        ((), False),
    ],
)
def test_a_worker_says_so_itself(command: tuple[str, ...], is_one: bool) -> None:
    assert is_worker(command) is is_one
