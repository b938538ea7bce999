from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpumodels_shared.identity import boot_id, pid_namespace
from gpumodels_shared.layout import Header
from gpumodels_tui.sources.pid_namespaces import FIRST_NAMESPACE, PidsInside, sees_all_pids

INSIDE = 4026532179


def a_header(pid: int = 7, namespace: int = INSIDE, boot: bytes | None = None) -> Header:
    return Header(4096, 1000, pid, 0, 0, namespace, boot_id() if boot is None else boot, bytes(16), 0)


def a_proc(directory: Path, *processes: tuple[int, str]) -> Path:
    """A /proc with these pids and their NSpid lines."""
    for pid, numbers in processes:
        (directory / str(pid) / "ns").mkdir(parents=True)
        (directory / str(pid) / "status").write_text(f"Name:\tpython\nPid:\t{pid}\nNSpid:\t{numbers}\n")
    (directory / "self").mkdir(exist_ok=True)
    return directory


def test_a_process_in_a_container_is_found_by_the_number_that_it_has_inside(tmp_path: Path) -> None:
    proc = a_proc(tmp_path, (7, "7"), (4000, "4000\t9"), (4711, "4711\t7"))
    namespace = proc / "4711" / "ns" / "pid"
    namespace.touch()
    assert PidsInside(proc).from_outside(a_header(namespace=namespace.stat().st_ino)) == 4711


def test_the_same_number_in_another_container_is_another_process(tmp_path: Path) -> None:
    proc = a_proc(tmp_path, (4711, "4711\t7"))
    (proc / "4711" / "ns" / "pid").touch()
    assert PidsInside(proc).from_outside(a_header(namespace=INSIDE)) is None


def test_a_process_whose_namespace_may_not_be_seen_and_whose_start_is_unknown_is_not_guessed(tmp_path: Path) -> None:
    assert PidsInside(a_proc(tmp_path, (4711, "4711\t7"))).from_outside(a_header()) is None


def test_a_file_of_another_boot_is_of_no_process_here(tmp_path: Path) -> None:
    proc = a_proc(tmp_path, (4711, "4711\t7"))
    (proc / "4711" / "ns" / "pid").touch()
    inode = (proc / "4711" / "ns" / "pid").stat().st_ino
    assert PidsInside(proc).from_outside(a_header(namespace=inode, boot=b"x" * 16)) is None
    assert PidsInside(proc).from_outside(a_header(namespace=inode, boot=bytes(16))) is None


def test_processes_are_listed_once_for_many_files(tmp_path: Path) -> None:
    proc = a_proc(tmp_path, (4711, "4711\t7"))
    (proc / "4711" / "ns" / "pid").touch()
    header = a_header(namespace=(proc / "4711" / "ns" / "pid").stat().st_ino)
    inside = PidsInside(proc)
    assert inside.from_outside(a_header(pid=8)) is None
    (proc / "4711" / "status").unlink()
    assert inside.from_outside(header) == 4711
    inside.kept_seconds = -1.0
    assert inside.from_outside(header) is None


def in_a_container(program: str) -> str:
    """What a program prints in a PID namespace of its own; skips where none may be made."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    command = [unshare, "-Urpf", "--mount-proc", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "unshare" in done.stderr:
        pytest.skip("namespaces may not be made here")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(pid_namespace() != FIRST_NAMESPACE, reason="these tests run in a container themselves")
def test_in_a_container_a_drivers_numbers_name_nobody() -> None:
    assert sees_all_pids()
    program = "from gpumodels_tui.sources.pid_namespaces import sees_all_pids; print(sees_all_pids())"
    assert in_a_container(program) == "False\n"


@pytest.mark.slow
@pytest.mark.skipif(pid_namespace() != FIRST_NAMESPACE, reason="these tests run in a container themselves")
def test_a_real_process_in_a_container_is_found_from_outside() -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    program = "from gpumodels_shared.identity import this_process; print(*this_process()[::3], flush=True); input()"
    command = [unshare, "-Urpf", "--mount-proc", sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        said = child.stdout.readline().split()
        if not said:
            pytest.skip("namespaces may not be made here")
        found = PidsInside().from_outside(a_header(int(said[0]), int(said[1])))
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        child.stdin.close()
    assert [found] == [int(one) for one in children]
    assert found != os.getpid()
