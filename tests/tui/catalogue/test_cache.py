"""Tests of what is remembered from one start to the next, and of every way in which it can't be."""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gpumodels_shared.fingerprint import Match
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.catalogue.cache import SAVE_EVERY, SAVE_EVERY_MATCHES, Cache, _open, is_settled
from gpumodels_tui.catalogue.index import Job
from gpumodels_tui.catalogue.kept_matches import files_key, values_key
from gpumodels_tui.catalogue.tree import Stamp
from gpumodels_tui.headers.headers import FileHeader

AN_HOUR_AGO_NS = time.time_ns() - 3_600 * 10**9
STAMP = Stamp(1, 77, 1_000, AN_HOUR_AGO_NS, AN_HOUR_AGO_NS)
LATER = replace(STAMP, size_bytes=7)
HEADER = FileHeader("safetensors", {"title": "x"}, 3, {"float32": 16}, b"\x91\x91\x04")
FINGERPRINT = Fingerprint((TensorSample("a", "float32", (4,), bytes(16)),), 5)


def a_job(real: str = "/m/a.safetensors", stamp: Stamp = STAMP, with_all_metadata: bool = False) -> Job:
    return Job(real, ".safetensors", stamp, with_all_metadata)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "gpumodels" / "catalogue.sqlite"


def remembering(path: Path, header: FileHeader = HEADER, job: Job | None = None) -> None:
    """One start that read one file."""
    cache = Cache(path)
    cache.keep(job or a_job(), header)
    cache.close()
    assert cache.problem is None


def recalled(path: Path, job: Job | None = None) -> FileHeader | None:
    """What the next start knows of it."""
    job = job or a_job()
    cache = Cache(path)
    found = cache.look_up([job])
    cache.close()
    assert cache.problem is None
    return found.get(job.real)


def looked_up(path: Path, jobs: list[Job]) -> int:
    """How many of them the next start knows."""
    with closing(Cache(path)) as cache:
        return len(cache.look_up(jobs))


def test_a_header_is_recalled_at_the_next_start(path: Path) -> None:
    remembering(path)
    assert recalled(path) == HEADER


def test_what_an_older_version_read_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels_tui.catalogue.cache.HEADERS_VERSION", b"")
    remembering(path)
    monkeypatch.undo()
    assert recalled(path) is None
    remembering(path)
    assert recalled(path) == HEADER


@pytest.mark.parametrize("field", ["inode", "size_bytes", "modified_ns", "changed_ns"])
def test_a_file_that_differs_in_anything_is_not_recalled(path: Path, field: str) -> None:
    remembering(path)
    assert recalled(path, a_job(stamp=replace(STAMP, **{field: getattr(STAMP, field) - 1}))) is None
    assert recalled(path, a_job("/m/b.safetensors")) is None


def test_a_device_has_another_number_after_the_next_boot(path: Path) -> None:
    remembering(path)
    assert recalled(path, a_job(stamp=replace(STAMP, device=99))) == HEADER


def test_a_file_that_changed_just_now_may_change_again_unnoticed_and_is_not_kept(path: Path) -> None:
    now = time.time_ns()
    fresh = a_job(stamp=Stamp(1, 77, 1_000, now, now))
    remembering(path, job=fresh)
    assert recalled(path, fresh) is None


@pytest.mark.parametrize(("age_seconds", "settled"), [(0, False), (3600, True), (-3600, False)])
def test_a_change_shows_in_the_stamp_of_a_file_that_was_left_alone_for_a_while(age_seconds: int, settled: bool) -> None:
    then = time.time_ns() - age_seconds * 10**9
    assert is_settled(Stamp(1, 77, 1_000, then, AN_HOUR_AGO_NS)) is settled
    assert is_settled(Stamp(1, 77, 1_000, AN_HOUR_AGO_NS, then)) is settled


def test_long_metadata_are_recalled_in_part_or_whole_as_wanted(path: Path) -> None:
    long = replace(HEADER, metadata={"title": "x", "ss_tag_frequency": "tag " * 5_000})
    remembering(path, long)
    brief = recalled(path)
    assert brief is not None
    assert (brief.metadata, brief.is_brief) == ({"title": "x"}, True)
    assert recalled(path, a_job(with_all_metadata=True)) == long


def test_a_path_that_is_no_unicode_is_recalled(path: Path) -> None:
    job = a_job(os.fsdecode(b"/m/caf\xe9.safetensors"))
    remembering(path, job=job)
    assert recalled(path, job) == HEADER


def test_many_headers_are_written_together_and_all_recalled(path: Path) -> None:
    cache = Cache(path)
    jobs = [a_job(f"/m/{number}.safetensors") for number in range(SAVE_EVERY + 10)]
    for job in jobs[:-10]:
        cache.keep(job, HEADER)
    assert looked_up(path, jobs) == SAVE_EVERY
    for job in jobs[-10:]:
        cache.keep(job, HEADER)
    cache.close()
    assert looked_up(path, jobs) == SAVE_EVERY + 10


def test_matches_are_recalled_for_the_same_values_and_files_only(path: Path) -> None:
    one, other, changed = (files_key(((name, stamp),)) for name, stamp in (("/a", STAMP), ("/b", STAMP), ("/a", LATER)))
    values = values_key(FINGERPRINT)
    cache = Cache(path)
    cache.keep_match(values, one, Match(13, 16))
    cache.keep_match(values, other, Match(0, 16))
    cache.close()
    cache = Cache(path)
    assert len({one, other, changed}) == 3
    assert values_key(replace(FINGERPRINT, taken_at_ns=9)) == values != values_key(Fingerprint((), 5))
    assert cache.look_up_matches([values, b"of others"]) == {values: {one: Match(13, 16), other: Match(0, 16)}}
    cache.close()


def test_what_several_runs_and_viewers_found_out_is_kept_together_in_one_row(path: Path) -> None:
    for one, other in (("1", "2"), ("3", "4")):
        beside, cache = Cache(path), Cache(path)
        beside.keep_match(b"values", one.encode() * 8, Match(1, 16))
        cache.keep_match(b"values", other.encode() * 8, Match(2, 16))
        beside.close()
        cache.close()
    with closing(Cache(path)) as cache:
        assert sorted(cache.look_up_matches([b"values"])[b"values"]) == [number * 8 for number in (b"1", b"2", b"3", b"4")]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM kept_matches").fetchone() == (1,)


def test_all_that_is_kept_of_a_models_values_is_one_query(path: Path) -> None:
    cache = Cache(path)
    for number in range(1_000):
        cache.keep_match(b"values", struct.pack("<Q", number), Match(0, 16))
    cache.save()
    asked: list[str] = []
    assert cache._connection is not None
    cache._connection.set_trace_callback(asked.append)
    assert len(cache.look_up_matches([b"values"])[b"values"]) == 1_000
    assert len(asked) == 1
    cache.close()


def test_of_too_many_matches_the_last_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels_tui.catalogue.kept_matches.MAX_KEPT", 3)
    for number in range(5):
        with closing(Cache(path)) as cache:
            cache.keep_match(b"values", struct.pack("<Q", number), Match(number, 16))
    with closing(Cache(path)) as cache:
        assert [match.matched for match in cache.look_up_matches([b"values"])[b"values"].values()] == [2, 3, 4]


def test_many_matches_are_written_together_before_anybody_saves(path: Path) -> None:
    cache = Cache(path)
    for number in range(SAVE_EVERY_MATCHES):
        cache.keep_match(b"%d" % (number % 7), struct.pack("<Q", number), Match(0, 16))
    with closing(Cache(path)) as beside:
        kept = beside.look_up_matches([b"%d" % number for number in range(7)])
    assert sum(map(len, kept.values())) == SAVE_EVERY_MATCHES
    cache.close()


def test_the_matches_of_a_former_version_go_and_that_version_finds_its_table_again(path: Path) -> None:
    remembering(path)
    former = sqlite3.connect(path)
    former.execute("CREATE TABLE matches (fingerprint BLOB, files BLOB, day INTEGER, matched INTEGER, compared INTEGER)")
    former.execute("INSERT INTO matches VALUES (x'01', x'02', 1, 1, 1)")
    former.commit()
    assert recalled(path) == HEADER
    assert former.execute("SELECT count(*) FROM matches").fetchone() == (0,)
    former.execute("INSERT INTO matches VALUES (x'01', x'02', 1, 1, 1)")
    former.commit()
    former.close()
    assert recalled(path) == HEADER


def test_viewers_share_it(path: Path) -> None:
    one, other = Cache(path), Cache(path)
    one.keep(a_job("/m/1.safetensors"), HEADER)
    other.keep(a_job("/m/2.safetensors"), HEADER)
    one.save()
    other.save()
    both = [a_job("/m/1.safetensors"), a_job("/m/2.safetensors")]
    assert len(one.look_up(both)) == len(other.look_up(both)) == 2
    one.close()
    other.close()


def test_it_is_its_users_alone(path: Path) -> None:
    remembering(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def without(path: Path) -> str:
    """All that can be asked of a cache that is of no use; the one problem it has."""
    cache = Cache(path)
    assert cache.look_up([a_job()]) == {}
    problem = cache.problem
    cache.keep(a_job(), HEADER)
    cache.keep_match(b"values", b"of files", Match(1, 1))
    assert cache.look_up_matches([b"values"]) == {}
    cache.save()
    cache.close()
    assert problem is not None
    assert cache.problem == problem
    assert problem.startswith(f"{path}: ")
    return problem


@pytest.mark.parametrize("damage", [b"this is no database at all" * 400, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_one_is_removed_and_made_anew_at_the_next_start(path: Path, damage: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    path.chmod(0o600)
    assert "damaged" in without(path)
    remembering(path)
    assert recalled(path) == HEADER


def test_one_damaged_in_its_middle_is_an_error_nowhere(path: Path) -> None:
    cache = Cache(path)
    jobs = [a_job(f"/m/{number}.safetensors") for number in range(500)]
    for job in jobs:
        cache.keep(job, HEADER)
    cache.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    cache = Cache(path)
    assert cache.look_up(jobs) == {}
    assert cache.problem is not None
    cache.close()


def test_rows_of_nonsense_are_as_good_as_none(path: Path) -> None:
    remembering(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE headers SET header = x'c1'")
    connection.close()
    assert recalled(path) is None


def test_one_that_another_program_holds_is_done_without(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels_tui.catalogue.cache.LOCKED_SECONDS", 0.3)
    remembering(path)
    opened: list[Path] = []

    def opening(path: Path, max_bytes: int) -> sqlite3.Connection:
        opened.append(path)
        return _open(path, max_bytes)

    monkeypatch.setattr("gpumodels_tui.catalogue.cache._open", opening)
    holding = sqlite3.connect(path)
    holding.execute("BEGIN EXCLUSIVE")
    assert "locked" in without(path)
    assert len(opened) == 1  # waited for once, and not again for each question
    holding.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_one_that_may_not_be_written_is_done_without(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.parent.chmod(0o500)
    assert "denied" in without(path)


def test_a_place_that_is_no_directory_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    without(tmp_path / "cache" / "catalogue.sqlite")


def test_one_that_others_may_write_is_not_believed(path: Path) -> None:
    remembering(path)
    path.chmod(0o666)
    assert "not this user's own" in without(path)


def test_a_symlink_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    other.touch()
    path.parent.mkdir(parents=True)
    path.symlink_to(other)
    assert "not this user's own" in without(path)
    assert other.read_bytes() == b""


def test_a_full_one_forgets_what_was_of_no_use_for_longest(path: Path) -> None:
    limit = 1024 * 1024
    cache = Cache(path, max_bytes=limit)
    large = replace(HEADER, metadata={f"key {number}": os.urandom(400).hex() for number in range(40)})
    jobs = [a_job(f"/m/{number}.safetensors", with_all_metadata=True) for number in range(400)]
    for job in jobs:
        cache.keep(job, large)
        cache.save()
    assert cache.problem is None
    found = cache.look_up(jobs)
    assert path.stat().st_size <= limit
    assert jobs[-1].real in found
    assert jobs[0].real not in found
    cache.close()


def test_viewers_that_start_at_once_write_side_by_side(path: Path) -> None:
    problems: list[str | None] = []

    def start(number: int) -> None:
        cache = Cache(path)
        for round_ in range(20):
            for file in range(30):
                cache.keep(a_job(f"/m/{number}-{round_}-{file}.safetensors"), HEADER)
            cache.save()
        cache.close()
        problems.append(cache.problem)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [None] * 4
    jobs = [
        a_job(f"/m/{number}-{round_}-{file}.safetensors") for number in range(4) for round_ in range(20) for file in range(30)
    ]
    cache = Cache(path)
    assert len(cache.look_up(jobs)) == len(jobs)
    cache.close()
