"""Tests of which ports are a process's own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from gpumodels_tui.outside.listening import ports_of


def test_a_processes_ports_are_those_on_which_it_listens_for_this_machine() -> None:
    ports = set(ports_of(os.getpid()))
    with socket.create_server(("127.0.0.1", 0)) as own, socket.create_server(("0.0.0.0", 0)) as everyones:
        expected = {own.getsockname()[1], everyones.getsockname()[1]}
        assert set(ports_of(os.getpid())) - ports == expected
        assert not expected & set(ports_of(os.getppid()))
    assert set(ports_of(os.getpid())) == ports


def test_a_process_of_another_network_and_one_that_is_gone_have_none(tmp_path: Path) -> None:
    for pid, name in ((7, "other"), ("self", "own")):
        (tmp_path / str(pid) / "ns").mkdir(parents=True)
        (tmp_path / str(pid) / "ns" / "net").write_text(name)
    (tmp_path / "7" / "fd").mkdir()
    (tmp_path / "7" / "fd" / "3").symlink_to("socket:[99]")
    (tmp_path / "7" / "net").mkdir()
    line = "0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 1000 0 99 1\n"
    (tmp_path / "7" / "net" / "tcp").write_text(f"head\n{line}nonsense\n")
    assert ports_of(7, str(tmp_path)) == ()
    (tmp_path / "7" / "ns" / "net").unlink()
    os.link(tmp_path / "self" / "ns" / "net", tmp_path / "7" / "ns" / "net")
    assert ports_of(7, str(tmp_path)) == (8080,)
    assert ports_of(8, str(tmp_path)) == ()
