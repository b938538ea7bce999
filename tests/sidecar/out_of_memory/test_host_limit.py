"""The limit of a cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpumodels.out_of_memory.host_limit import HostLimit


class Cgroup:
    def __init__(self, directory: Path) -> None:
        self.own = directory / "cgroup"
        self.own.write_text("0::/job/one\n")
        self.directory = directory / "fs" / "job" / "one"
        self.directory.mkdir(parents=True)
        (self.directory / "memory.max").write_text("1073741824\n")
        (self.directory / "memory.current").write_text("1073700000\n")
        self.counts()
        self.limit = HostLimit(self.own, directory / "fs")

    def counts(self, oom: int = 0, oom_kill: int = 0) -> None:
        text = f"low 0\nhigh 0\nmax 12\noom {oom}\noom_kill {oom_kill}\noom_group_kill 0\n"
        (self.directory / "memory.events").write_text(text)


@pytest.fixture
def cgroup(tmp_path: Path) -> Cgroup:
    return Cgroup(tmp_path)


def test_what_happens_is_told_once(cgroup: Cgroup) -> None:
    assert cgroup.limit.newly_failed() is None
    cgroup.counts(oom=1)
    assert cgroup.limit.newly_failed() == "host memory reached the limit of this cgroup"
    assert cgroup.limit.newly_failed() is None
    cgroup.counts(oom=2, oom_kill=2)
    assert cgroup.limit.newly_failed() == "the kernel killed 2 processes of this cgroup for its memory limit"
    assert (cgroup.limit.limit_bytes(), cgroup.limit.used_bytes()) == (1073741824, 1073700000)


def test_what_happened_before_is_not_new(tmp_path: Path) -> None:
    cgroup = Cgroup(tmp_path)
    cgroup.counts(oom=3)
    limit = HostLimit(cgroup.own, tmp_path / "fs")
    assert limit.newly_failed() is None


def test_without_cgroups_nothing_is_known(cgroup: Cgroup, tmp_path: Path) -> None:
    (cgroup.directory / "memory.max").write_text("max\n")
    assert cgroup.limit.limit_bytes() is None
    (cgroup.directory / "memory.events").unlink()
    assert cgroup.limit.newly_failed() is None
    for text in ("4:memory:/x\n0::/\n", "", "0::/../../etc\n"):
        cgroup.own.write_text(text)
        nothing = HostLimit(cgroup.own, tmp_path / "fs")
        assert (nothing.newly_failed(), nothing.limit_bytes(), nothing.used_bytes()) == (None, None, None)
    missing = HostLimit(tmp_path / "missing", tmp_path / "fs")
    assert missing.newly_failed() is None
