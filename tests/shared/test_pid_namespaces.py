from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gpumodels_shared.identity import boot_id, pid_namespace
from gpumodels_shared.layout import Header
from gpumodels_shared.pid_namespaces import FIRST_NAMESPACE, pid_from_outside, sees_all_pids

INSIDE = 4026532179
INODE = 59554


def a_header(pid: int = 7, namespace: int = INSIDE, boot: bytes | None = None) -> Header:
    return Header(4096, 1000, pid, 0, 0, namespace, boot_id() if boot is None else boot, bytes(16), 0)


def a_proc(directory: Path, *processes: tuple[int, str]) -> Path:
    """A /proc with these pids and their NSpid lines."""
    for pid, numbers in processes:
        (directory / str(pid) / "ns").mkdir(parents=True)
        (directory / str(pid) / "status").write_text(f"Name:\tpython\nPid:\t{pid}\nNSpid:\t{numbers}\n")
    held = [f"{number}: FLOCK  ADVISORY  WRITE {pid} 00:1b:{INODE} 0 EOF\n" for number, (pid, _) in enumerate(processes, 1)]
    (directory / "locks").write_text("".join(held))
    return directory


def test_a_process_in_a_container_is_found_by_the_number_that_it_has_inside(tmp_path: Path) -> None:
    proc = a_proc(tmp_path, (7, "7"), (4000, "4000\t9"), (4711, "4711\t7"))
    namespace = proc / "4711" / "ns" / "pid"
    namespace.touch()
    assert pid_from_outside(a_header(namespace=namespace.stat().st_ino), INODE, proc) == 4711


def test_the_same_number_in_another_container_is_another_process(tmp_path: Path) -> None:
    proc = a_proc(tmp_path, (4711, "4711\t7"))
    (proc / "4711" / "ns" / "pid").touch()
    assert pid_from_outside(a_header(namespace=INSIDE), INODE, proc) is None


def test_a_process_whose_namespace_may_not_be_seen_and_whose_start_is_unknown_is_not_guessed(tmp_path: Path) -> None:
    assert pid_from_outside(a_header(), INODE, a_proc(tmp_path, (4711, "4711\t7"))) is None


def test_a_file_of_another_boot_is_of_no_process_here(tmp_path: Path) -> None:
    proc = a_proc(tmp_path, (4711, "4711\t7"))
    (proc / "4711" / "ns" / "pid").touch()
    inode = (proc / "4711" / "ns" / "pid").stat().st_ino
    assert pid_from_outside(a_header(namespace=inode, boot=b"x" * 16), INODE, proc) is None
    assert pid_from_outside(a_header(namespace=inode, boot=bytes(16)), INODE, proc) is None


def test_only_who_holds_the_files_own_lock_is_asked(tmp_path: Path) -> None:
    proc = a_proc(tmp_path, (4711, "4711\t7"))
    (proc / "4711" / "ns" / "pid").touch()
    header = a_header(namespace=(proc / "4711" / "ns" / "pid").stat().st_ino)
    assert pid_from_outside(header, INODE, proc) == 4711
    assert pid_from_outside(header, INODE + 1, proc) is None
    (proc / "locks").write_text(
        f"1: FLOCK  ADVISORY  READ 4711 00:1b:{INODE} 0 EOF\n2: POSIX  ADVISORY  WRITE 4711 00:1b:{INODE} 0 9\n"
    )
    assert pid_from_outside(header, INODE, proc) is None
    (proc / "locks").unlink()
    assert pid_from_outside(header, INODE, proc) is None


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
    program = "from gpumodels_shared.pid_namespaces import sees_all_pids; print(sees_all_pids())"
    assert in_a_container(program) == "False\n"


@pytest.mark.slow
@pytest.mark.skipif(pid_namespace() != FIRST_NAMESPACE, reason="these tests run in a container themselves")
def test_a_real_process_in_a_container_is_found_from_outside(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    file = tmp_path / "locked"
    file.touch()
    program = """
import fcntl, sys
from gpumodels_shared.identity import this_process
held = open(sys.argv[1])
fcntl.flock(held, fcntl.LOCK_EX)
print(*this_process()[::3], flush=True)
input()
"""
    command = [unshare, "-Urpf", "--mount-proc", sys.executable, "-c", program, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        said = child.stdout.readline().split()
        if not said:
            pytest.skip("namespaces may not be made here")
        found = pid_from_outside(a_header(int(said[0]), int(said[1])), file.stat().st_ino)
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        child.stdin.close()
    assert [found] == [int(one) for one in children]
    assert found != os.getpid()
