from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpumodels.support.descriptors import OwnDescriptor, close_all_inherited
from processes import run_python


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    return path


def number_of(path: Path) -> int:
    """The number of this process's descriptor of the file."""
    (found,) = [int(name) for name in os.listdir("/proc/self/fd") if is_of(int(name), path)]
    return found


def is_of(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except OSError:
        return False


def test_it_reads_and_is_closed_once(file: Path) -> None:
    opened = OwnDescriptor(str(file), os.O_RDONLY)
    number = number_of(file)
    assert (opened.size, opened.read(3, 4)) == (10, b"456")
    opened.close()
    assert not is_of(number, file)
    opened.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        opened.read(1, 0)


def test_a_number_that_has_become_somebody_elses_is_left_open(file: Path, tmp_path: Path) -> None:
    opened = OwnDescriptor(str(file), os.O_RDONLY)
    number = number_of(file)
    os.close(number)  # a host that closes all that it doesn't know
    (tmp_path / "theirs").write_bytes(b"")
    theirs = os.open(tmp_path / "theirs", os.O_RDONLY)
    assert theirs == number
    opened.close()
    del opened
    assert is_of(theirs, tmp_path / "theirs")
    os.close(theirs)


def test_a_child_closes_what_it_inherited_only_when_told_right_after_the_fork(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = OwnDescriptor(str(file), os.O_RDONLY)
    number = number_of(file)
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in the child
    opened.close()
    assert is_of(number, file)
    close_all_inherited()
    assert not is_of(number, file)


def test_dropping_it_closes_it(file: Path) -> None:
    opened = OwnDescriptor(str(file), os.O_RDONLY)
    number = number_of(file)
    del opened
    assert not is_of(number, file)


@pytest.mark.slow
def test_one_that_outlives_its_module_at_the_interpreters_end_says_nothing() -> None:
    done = run_python("""
        import builtins
        from gpumodels.support import descriptors
        builtins.kept = descriptors.OwnDescriptor("/dev/null", 0)
        descriptors.os = descriptors.suppress = descriptors._identity_of = None
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
