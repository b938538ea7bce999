"""Whose processes the commands show, with real processes of several users: root sees all, others theirs and what is shared."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Final

import pytest

from gpumodels_shared.places import snapshot_files
from processes import run_python, running_python, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")

ADA: Final = 54_321
BOB: Final = 54_322
TEAM: Final = 54_400

AS_USER: Final = """
import contextlib, io, os, pwd, sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import gpumodels_shared.places, gpumodels_shared.identity, gpumodels_shared.writer, gpumodels_shared.codec, snapshots
import gpumodels_tui.settings.config_file
from gpumodels_tui.cli import main
place = Path(sys.argv[2])
gpumodels_shared.places.SHARED_MEMORY, tempfile.tempdir = place, str(place)
os.environ["XDG_CONFIG_HOME"] = os.environ["XDG_CACHE_HOME"] = str(place / "home")
# The user may not be allowed to read Python's directories: what is imported on demand is so here.
os.environ["GPUMODELS_DIR"] = str(place / "none")
for arguments in (["--json"], ["--csv"], ["--once"], ["config", "show"], ["--version"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main(arguments)
gpumodels_tui.settings.config_file.line_of("theme = 1", ("theme",))
del os.environ["GPUMODELS_DIR"]
uid, groups = int(sys.argv[3]), [int(group) for group in sys.argv[4].split(",") if group]
os.setgroups(groups)
os.setgid(uid)
os.setuid(uid)
"""
"""The start of a process that runs as some user with some groups, and takes another directory for /dev/shm."""

IN_A_NAMESPACE: Final = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(4, 1)  # what belongs to its uid is below /proc again
if libc.unshare(0x10000000):
    sys.exit(f"no namespaces here: {os.strerror(ctypes.get_errno())}")
for name, line in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {uid} 1")):
    Path("/proc/self", name).write_text(line)
"""
"""Behind AS_USER: in a user namespace of this user's own, where it is root, as `unshare -Ur` and rootless containers make it."""

RUN_HOST: Final = """
import time
directory = gpumodels_shared.places.default_directory()
gpumodels_shared.places.ensure_directory(directory)
if (group := gpumodels_shared.places.chosen_group()) is not None:
    gpumodels_shared.places.share_directory(directory, group)
identity = gpumodels_shared.identity.this_process()
writer = gpumodels_shared.writer.SnapshotWriter(directory, identity, 100)
if group is not None:
    os.chown(writer.path, -1, group)
    os.chmod(writer.path, 0o640)
snapshot = snapshots.a_snapshot(snapshots.a_model(sys.argv[5]), process=snapshots.a_process(pid=identity.pid))
writer.publish(gpumodels_shared.codec.encode(snapshot))
print(flush=True)
while True:
    time.sleep(0.05)
    writer.beat()
"""

RUN_VIEWER: Final = "\nsys.exit(main(sys.argv[5:]))\n"

TESTS: Final = str(Path(__file__).parents[1])


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A directory that stands for /dev/shm: every user may write there."""
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    place.chmod(0o1777)
    yield place
    shutil.rmtree(place)


@contextlib.contextmanager
def a_host_of(
    everybodys: Path, uid: int, model: str, group: int | None = None, *, before: str = "", called: int | None = None
) -> Iterator[None]:
    groups, environment = ("", {"GPUMODELS_GROUP": ""}) if group is None else (str(group), {"GPUMODELS_GROUP": str(group)})
    with running_python(
        AS_USER + before + RUN_HOST, TESTS, str(everybodys), str(uid), groups, model, environment=environment
    ) as child:
        assert child.stdout is not None
        if child.stdout.readline() != "\n":
            pytest.skip("no user namespaces here")
        wait_until(lambda: snapshot_files(everybodys / f"gpumodels-{uid if called is None else called}") != [])
        yield


def view(
    everybodys: Path, uid: int, *arguments: str, groups: str = "", before: str = "", **environment: str
) -> CompletedProcess[str]:
    """What the viewer of this user prints."""
    program = AS_USER + before + RUN_VIEWER
    return run_python(
        program, TESTS, str(everybodys), str(uid), groups, *arguments, environment={"GPUMODELS_GROUP": "", **environment}
    )


def models(done: CompletedProcess[str]) -> dict[str, str]:
    """By model, the user, in a document."""
    assert "Traceback" not in done.stderr, done.stderr
    processes = json.loads(done.stdout)["processes"]
    return {model["name"]: process["user"] for process in processes for model in process["models"]}


def test_root_sees_all_and_chooses_by_name_or_uid_and_others_see_theirs(everybodys: Path) -> None:
    with a_host_of(everybodys, ADA, "of-ada"), a_host_of(everybodys, BOB, "of-bob"), a_host_of(everybodys, 0, "of-root"):
        assert models(view(everybodys, 0, "--json")) == {"of-ada": str(ADA), "of-bob": str(BOB), "of-root": "root"}
        assert models(view(everybodys, 0, "--json", "--user", str(ADA))) == {"of-ada": str(ADA)}
        assert models(view(everybodys, 0, "--json", "--user", "root")) == {"of-root": "root"}
        assert models(view(everybodys, 0, "--json", "--user", "0")) == {"of-root": "root"}
        assert models(view(everybodys, 0, "--json", GPUMODELS_TUI_USER=f"root,{BOB}")) == {"of-bob": str(BOB), "of-root": "root"}
        rows = csv.DictReader(io.StringIO(view(everybodys, 0, "--csv", "--user", str(BOB)).stdout))
        assert [(row["model"], row["user"]) for row in rows] == [("of-bob", str(BOB))]
        assert "of-ada" in view(everybodys, ADA, "--once").stdout
        assert models(view(everybodys, ADA, "--json")) == {"of-ada": str(ADA)}
        others = view(everybodys, ADA, "--json", "--user", str(BOB))
        assert (others.returncode, models(others)) == (1, {})
        assert f"nothing matches user {BOB}" in others.stderr


def test_a_user_cannot_be_made_to_see_anothers_files_by_any_option(everybodys: Path) -> None:
    with a_host_of(everybodys, ADA, "secret"):
        directory = everybodys / f"gpumodels-{ADA}"
        for arguments in (["--dir", str(directory)], ["--group", "0"], ["--group", str(ADA)], ["--user", str(ADA)]):
            done = view(everybodys, BOB, "--json", *arguments)
            assert "secret" not in done.stdout, arguments
            assert done.returncode == 1
        assert f"belongs to uid {ADA}" in view(everybodys, BOB, "--once", "--dir", str(directory)).stderr


def test_a_volume_that_all_may_write_is_refused_and_a_directory_in_it_is_its_users(everybodys: Path) -> None:
    """As an `emptyDir` between containers: those of the same user see each other, of others none but root does."""
    volume = everybodys / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    chosen = f"\nos.environ['GPUMODELS_DIR'] = {str(volume / 'files')!r}\n"
    itself = f"\nos.environ['GPUMODELS_DIR'] = {str(volume)!r}\n"
    for uid in (ADA, BOB):
        refused = view(everybodys, uid, "--json", before=itself)
        assert (
            f"{volume} belongs to uid 0, not to us; set GPUMODELS_DIR to a directory of yours, as {volume}/files"
            in refused.stderr
        )
    with running_python(AS_USER + chosen + RUN_HOST, TESTS, str(everybodys), str(ADA), "", "shared") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "\n"
        assert (volume / "files").stat().st_mode & 0o777 == 0o700
        assert models(view(everybodys, ADA, "--json", before=chosen)) == {"shared": str(ADA)}
        assert models(view(everybodys, 0, "--json", before=chosen)) == {"shared": str(ADA)}
        other = view(everybodys, BOB, "--json", before=chosen)
        assert models(other) == {}
        assert f"{volume}/files belongs to uid {ADA}, not to us" in other.stderr


def test_a_user_sees_what_runs_in_a_user_namespace_of_theirs_and_nobody_else_but_root_does(everybodys: Path) -> None:
    with a_host_of(everybodys, ADA, "within", before=IN_A_NAMESPACE, called=0), a_host_of(everybodys, BOB, "of-bob"):
        outside = view(everybodys, ADA, "--json")
        assert (outside.stderr, models(outside)) == ("", {"within": str(ADA)})
        assert models(view(everybodys, BOB, "--json")) == {"of-bob": str(BOB)}
        assert models(view(everybodys, 0, "--json")) == {"within": str(ADA), "of-bob": str(BOB)}


def test_where_the_directory_of_root_is_the_machines_the_one_in_a_user_namespace_has_another(everybodys: Path) -> None:
    with a_host_of(everybodys, 0, "of-root"), a_host_of(everybodys, ADA, "within", before=IN_A_NAMESPACE):
        assert models(view(everybodys, ADA, "--json")) == {"within": str(ADA)}
        assert models(view(everybodys, ADA, "--json", before=IN_A_NAMESPACE)) == {"within": "root"}
        assert models(view(everybodys, 0, "--json")) == {"within": str(ADA), "of-root": "root"}


def test_root_of_a_user_namespace_sees_what_is_theirs_and_no_warning_of_what_is_not(everybodys: Path) -> None:
    with a_host_of(everybodys, ADA, "of-ada"), a_host_of(everybodys, BOB, "secret"), a_host_of(everybodys, 0, "of-root"):
        within = view(everybodys, ADA, "--json", before=IN_A_NAMESPACE)
        assert (within.stderr, models(within)) == ("", {"of-ada": "root"}), "it is called root there"
        elsewhere = view(everybodys, ADA, "--json", "--dir", str(everybodys / f"gpumodels-{BOB}"), before=IN_A_NAMESPACE)
        assert "secret" not in elsewhere.stdout
        assert "Permission denied" in elsewhere.stderr


def test_a_group_shares_its_members_processes_whether_it_is_a_flag_a_variable_or_a_key(everybodys: Path) -> None:
    config = everybodys / "home" / "gpumodels" / "config.toml"
    config.parent.mkdir(parents=True)
    with a_host_of(everybodys, ADA, "shared", TEAM):
        team = str(TEAM)
        assert models(view(everybodys, BOB, "--json", groups=team)) == {}
        assert models(view(everybodys, BOB, "--json", "--group", team, groups=team)) == {"shared": str(ADA)}
        assert models(view(everybodys, BOB, "--json", groups=team, GPUMODELS_GROUP=team)) == {"shared": str(ADA)}
        config.write_text(f"group = {TEAM}")
        assert models(view(everybodys, BOB, "--json", groups=team)) == {"shared": str(ADA)}
        assert models(view(everybodys, BOB, "--json")) == {}, "not a member"
        unknown = view(everybodys, BOB, "--json", "--group", "no-such-group")
        assert "no-such-group: no such group" in unknown.stderr


def test_settings_that_another_user_wrote_are_not_roots(everybodys: Path) -> None:
    """As with sudo, which may keep HOME: what a user wrote must not choose what root's viewer writes or listens to."""
    config = everybodys / "home" / "gpumodels" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('theme = "dark"\n[metrics]\nlisten = "0.0.0.0:1"\n')
    os.chown(config, ADA, ADA)
    shown = view(everybodys, 0, "config", "show")
    assert '"dark"' not in shown.stdout
    assert f"belongs to uid {ADA}, neither to us nor to root; the file is ignored" in shown.stderr
    assert 'theme = "dark"' in view(everybodys, ADA, "config", "show").stdout
    os.chown(config, 0, 0)
    assert 'theme = "dark"' in view(everybodys, ADA, "config", "show").stdout, "root's file is everybody's"
