"""The units: systemd takes them, they start commands that there are, and no more is open than what the documents say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Final

import pytest

from gpumodels_tui.deploy.shipped_files import shipped_files
from gpumodels_tui.settings.parser import parser
from gpumodels_tui.settings.table import COMMANDS
from processes import running_python

FILES: Final = shipped_files("systemd")
UNITS: Final = [str(path) for path in FILES if path.suffix == ".service"]
ANALYZE: Final = shutil.which("systemd-analyze")
NEEDS_SYSTEMD: Final = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
DOCUMENT: Final = Path(__file__).resolve().parents[3] / "docs" / "deploy.md"


def setting(name: str, key: str) -> str:
    (value,) = re.findall(rf"^{key}=(.*)$", FILES[PurePosixPath(name)], re.MULTILINE)
    return str(value)


def analyzed(*arguments: str, runtime: Path) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
    return subprocess.run([ANALYZE, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, text in FILES.items():
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return tmp_path


def manager(name: str) -> list[str]:
    return ["--user"] if name.startswith("user/") else []


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_there_is(name: str) -> None:
    words = shlex.split(setting(name, "ExecStart"))
    assert Path(words[0]).is_absolute()
    if words[-1] == "record" and "record" not in {command.name for command in COMMANDS}:
        pytest.skip("there is no command record")
    command = words[words.index("gpumodels_tui") + 1 :] if "-m" in words else words[1:]
    assert parser().parse_args(command).command in name


def test_none_is_enabled_unless_somebody_does() -> None:
    assert len(UNITS) == 4
    assert {setting(name, "WantedBy") for name in UNITS} == {"multi-user.target", "default.target"}


@NEEDS_SYSTEMD
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_fault_with_or_without_the_drop_in(name: str, folder: Path) -> None:
    for _ in range(2):
        checked = analyzed(*manager(name), "verify", str(folder / name), runtime=folder)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
        shutil.rmtree(folder / f"{name}.d", ignore_errors=True)


@NEEDS_SYSTEMD
def test_the_documents_say_how_exposed_each_unit_is(folder: Path) -> None:
    def exposure(name: str) -> str:
        said = analyzed(*manager(name), "security", "--offline=yes", str(folder / name), runtime=folder).stdout
        (found,) = re.findall(r"Overall exposure level for \S+: (\S+)", said)
        return str(found)

    found = {f"{name} with every-user.conf": exposure(name) for name in UNITS if name.startswith("system/")}
    for name in UNITS:
        shutil.rmtree(folder / f"{name}.d", ignore_errors=True)
    found |= {name: exposure(name) for name in UNITS}
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)`( with `every-user.conf`)? \|.*\| ([\d.]+) \|$", text, re.MULTILINE)
    described = {f"{name}{with_drop_in.replace('`', '')}": figure for name, with_drop_in, figure in rows}
    if f"systemd {re.findall('[0-9]+', analyzed('--version', runtime=folder).stdout)[0]}" in text:
        assert described == found
    else:  # each version of systemd has its own list of what counts
        assert described.keys() == found.keys()
        assert all(abs(float(described[name]) - float(figure)) < 1 for name, figure in found.items())


PUBLISHING: Final = """
import os, sys
from pathlib import Path
from snapshots import a_model, a_process, a_snapshot, published
os.setgroups([]); os.setresgid(12345, 12345, 12345); os.setresuid(12345, 12345, 12345)
writer = published(Path(sys.argv[1]), a_snapshot(a_model("wan"), process=a_process(pid=os.getpid())), None, 600_000)
print("published", flush=True)
sys.stdin.read()
"""
CONFINED: Final = """
import ctypes, os, sys
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "gpumodels_tui", *sys.argv[1:]])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed (Debian: util-linux)")
@pytest.mark.parametrize(("kept", "is_read"), [("-all,+dac_read_search", True), ("-all", False)])
def test_every_user_is_read_with_the_one_power_that_the_drop_in_leaves(kept: str, is_read: bool, tmp_path: Path) -> None:
    drop_in = FILES[PurePosixPath("system/gpumodels-metrics.service.d/every-user.conf")]
    assert "CapabilityBoundingSet=CAP_DAC_READ_SEARCH\n" in drop_in
    with tempfile.TemporaryDirectory() as outer:  # pytest's own folders are closed to other users
        Path(outer).chmod(0o755)
        theirs = Path(outer) / "theirs"
        theirs.mkdir(mode=0o700)
        os.chown(theirs, 12345, 12345)
        with running_python(PUBLISHING, str(theirs), environment={"PYTHONPATH": os.pathsep.join(sys.path)}) as publisher:
            assert publisher.stdout is not None
            assert publisher.stdout.readline() == "published\n"
            path = tmp_path / "page.prom"
            confined = ["setpriv", f"--bounding-set={kept}", "--inh-caps=-all", "--no-new-privs", sys.executable, "-c", CONFINED]
            subprocess.run([*confined, "metrics", "--dir", str(theirs), "--textfile", str(path)], check=True, timeout=60)
            assert ('model="wan"' in path.read_text()) is is_read
