"""Tests of the catalogue's books, with hand-made sightings and a clock of their own."""

from __future__ import annotations

import pytest

from gpumodels_tui.catalogue.facts import FileFacts
from gpumodels_tui.catalogue.index import MAX_WARNINGS, Index, Job
from gpumodels_tui.catalogue.tree import Sighting, Stamp
from gpumodels_tui.headers.headers import FileHeader

NOW = 1_800_000_000.0
HEADER = FileHeader("safetensors", {"title": "x"}, 1, {"float32": 16})


class FakeClock:
    """Monotonic and real time that move together, by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds

    def realtime(self) -> float:
        return NOW + self.seconds - 100.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def index(clock: FakeClock) -> Index:
    return Index(3.0, clock.monotonic, clock.realtime)


def a_sighting(path: str, real: str | None = None, *, size: int = 100, modified: float = NOW, inode: int = 1) -> Sighting:
    modified_ns = int(modified * 1e9)
    return Sighting(path, real or path, Stamp(1, inode, size, modified_ns, modified_ns))


def take(index: Index) -> Job:
    job = index.next_job()
    assert job is not None
    return job


def read_all(index: Index) -> list[str]:
    done = []
    while (job := index.next_job()) is not None:
        done.append(job.real)
        index.read(job, HEADER)
    return done


def facts_at(index: Index, path: str) -> FileFacts:
    return index.state().by_path[path]


def test_a_file_is_pending_until_it_is_read(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors"))
    assert index.state().pending == 1
    job = take(index)
    assert index.state().pending == 1
    index.read(job, HEADER)
    assert index.state().pending == 0
    assert facts_at(index, "/m/a.safetensors") == FileFacts(
        "/m/a.safetensors", 100, int(NOW * 1e9), "safetensors", {"title": "x"}, 1, {"float32": 16}
    )


def test_a_file_seen_again_unchanged_is_not_read_again(index: Index) -> None:
    assert index.enter(a_sighting("/m/a.safetensors"))
    read_all(index)
    assert not index.enter(a_sighting("/m/a.safetensors"))
    assert index.next_job() is None


def test_a_changed_file_keeps_its_old_facts_until_it_is_read(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors", size=100))
    read_all(index)
    index.enter(a_sighting("/m/a.safetensors", size=200))
    assert facts_at(index, "/m/a.safetensors").size_bytes == 100
    read_all(index)
    assert facts_at(index, "/m/a.safetensors").size_bytes == 200


def test_an_answer_about_an_older_state_of_the_file_is_dropped(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors", size=100))
    job = take(index)
    index.enter(a_sighting("/m/a.safetensors", size=200))
    index.read(job, HEADER)
    assert index.state().by_path == {}
    assert index.state().pending == 1
    assert take(index).stamp.size_bytes == 200


def test_every_name_of_a_file_leads_to_the_same_facts_and_it_is_read_once(index: Index) -> None:
    blob, link, other = "/hub/blobs/0f", "/hub/snapshots/r1/m.safetensors", "/hub/snapshots/r2/m.safetensors"
    index.enter(a_sighting(link, blob))
    index.enter(a_sighting(other, blob))
    assert read_all(index) == [blob]
    by_path = index.state().by_path
    assert set(by_path) == {blob, link, other}
    assert len({id(facts) for facts in by_path.values()}) == 1
    assert by_path[link].aliases == (link, other)
    assert by_path[link].path == blob


def test_a_symlink_that_leads_elsewhere_now_leaves_its_old_file(index: Index) -> None:
    index.enter(a_sighting("/m/current.safetensors", "/m/v1.safetensors", inode=1))
    index.enter(a_sighting("/m/v1.safetensors", inode=1))
    read_all(index)
    index.enter(a_sighting("/m/current.safetensors", "/m/v2.safetensors", inode=2))
    read_all(index)
    assert facts_at(index, "/m/current.safetensors").path == "/m/v2.safetensors"
    assert facts_at(index, "/m/v1.safetensors").aliases == ()


def test_a_file_goes_with_its_last_name(index: Index) -> None:
    index.enter(a_sighting("/m/link.safetensors", "/m/a.safetensors"))
    index.enter(a_sighting("/m/a.safetensors"))
    read_all(index)
    assert index.remove("/m/a.safetensors")
    assert "/m/link.safetensors" in index.state().by_path
    assert index.remove("/m/link.safetensors")
    assert not index.remove("/m/link.safetensors")
    assert index.state().by_path == {}


def test_a_file_that_goes_before_it_was_read_is_no_longer_pending(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors"))
    index.remove("/m/a.safetensors")
    assert index.state().pending == 0
    assert index.next_job() is None


def test_urgent_files_are_read_first_also_when_they_waited_already(index: Index) -> None:
    for name in "abc":
        index.enter(a_sighting(f"/m/{name}.safetensors"))
    index.enter(a_sighting("/m/c.safetensors"), urgent=True)
    assert read_all(index) == ["/m/c.safetensors", "/m/a.safetensors", "/m/b.safetensors"]


def test_a_broken_file_is_one_warning_until_it_is_repaired(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors"))
    index.enter(a_sighting("/m/good.safetensors"))
    index.failed(take(index), "invalid JSON in header")
    read_all(index)
    assert index.state().warnings == ("/m/a.safetensors: invalid JSON in header",)
    assert "/m/good.safetensors" in index.state().by_path
    index.enter(a_sighting("/m/a.safetensors", size=101))
    read_all(index)
    assert index.state().warnings == ()


def test_a_warning_goes_with_its_file(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors"))
    index.failed(take(index), "empty file")
    index.remove("/m/a.safetensors")
    assert index.state().warnings == ()


def test_a_good_file_that_breaks_loses_its_facts(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors"))
    read_all(index)
    index.enter(a_sighting("/m/a.safetensors", size=7))
    index.failed(take(index), "too short")
    assert index.state().by_path == {}
    assert len(index.state().warnings) == 1


def test_a_file_that_is_being_written_is_tried_again_before_it_is_reported(index: Index, clock: FakeClock) -> None:
    index.enter(a_sighting("/m/a.safetensors", modified=NOW))
    tries = 0
    while (wait := index.seconds_until_due()) is not None or tries == 0:
        clock.seconds += wait or 0.0
        assert index.state().warnings == ()
        assert index.state().pending == 1
        index.failed(take(index), "truncated", unfinished=True)
        tries += 1
    assert 3 <= tries <= 10
    assert 103.0 <= clock.seconds <= 104.5
    assert index.state().warnings == ("/m/a.safetensors: truncated",)
    assert index.state().pending == 0


def test_each_change_of_a_file_being_written_gives_it_more_time(index: Index, clock: FakeClock) -> None:
    for second in range(20):
        clock.seconds = 100.0 + second
        index.enter(a_sighting("/m/a.safetensors", size=second, modified=NOW + second))
        index.failed(take(index), "truncated", unfinished=True)
        assert index.state().warnings == ()
    index.enter(a_sighting("/m/a.safetensors", size=20, modified=NOW + 20))
    read_all(index)
    assert "/m/a.safetensors" in index.state().by_path


def test_an_old_truncated_file_is_reported_at_once(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors", modified=NOW - 3600))
    index.failed(take(index), "truncated", unfinished=True)
    assert index.state().warnings == ("/m/a.safetensors: truncated",)


def test_a_disk_that_did_not_answer_is_tried_again_while_the_warning_stands(index: Index, clock: FakeClock) -> None:
    index.enter(a_sighting("/m/a.safetensors"))
    index.failed(take(index), "no answer within 5 s", again_seconds=60.0)
    assert index.state().pending == 0
    assert index.next_job() is None
    clock.seconds += 60.0
    read_all(index)
    assert index.state().warnings == ()


def test_a_file_that_no_reader_knows_is_neither_facts_nor_warning(index: Index) -> None:
    index.enter(a_sighting("/elsewhere/pytorch_model.bin"), urgent=True)
    job = take(index)
    assert job.suffix is None
    index.read(job, None)
    state = index.state()
    assert (state.by_path, state.warnings, state.pending) == ({}, (), 0)


def test_a_name_with_a_suffix_has_a_nameless_blob_read_anew(index: Index) -> None:
    index.enter(a_sighting("/hub/blobs/0f"))
    index.read(take(index), None)
    index.enter(a_sighting("/hub/snapshots/r/m.safetensors", "/hub/blobs/0f"))
    job = take(index)
    assert job.suffix == ".safetensors"
    index.read(job, HEADER)
    assert "/hub/blobs/0f" in index.state().by_path


def test_what_there_is_nothing_to_read_of_is_a_warning(index: Index) -> None:
    fifo = Sighting("/m/f.safetensors", "/m/f.safetensors", None, "not a regular file (a FIFO)")
    assert index.enter(fifo)
    assert not index.enter(fifo)
    assert index.state().warnings == ("/m/f.safetensors: not a regular file (a FIFO)",)
    index.enter(a_sighting("/m/f.safetensors"))
    assert index.state().warnings == ()


def test_hostile_names_and_reasons_are_made_harmless(index: Index) -> None:
    index.enter(a_sighting("/m/\x1b[2J\u202e.safetensors"))
    index.failed(take(index), "bad \x1b]0;title\x07")
    (warning,) = index.state(("a notice\nof two lines",)).warnings[1:]
    assert warning == "/m/\\x1b[2J\\u202e.safetensors: bad \\x1b]0;title\\x07"


def test_thousands_of_broken_files_are_counted_not_listed(index: Index) -> None:
    for number in range(MAX_WARNINGS + 50):
        index.enter(Sighting(f"/m/{number}.safetensors", f"/m/{number}.safetensors", None, "a broken symlink"))
    warnings = index.state(("first of all",)).warnings
    assert len(warnings) == MAX_WARNINGS + 2
    assert warnings[0] == "first of all"
    assert warnings[-1] == "50 more model files could not be read"


def test_a_state_does_not_change_after_it_was_given_out(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors"))
    read_all(index)
    state = index.state()
    index.remove("/m/a.safetensors")
    assert "/m/a.safetensors" in state.by_path


LONG = FileHeader("safetensors", {"title": "x", "ss_tag_frequency": "tag " * 1_000}, 1, {"float32": 16})


def test_a_file_that_is_known_from_before_is_not_read(index: Index) -> None:
    for name in "ab":
        index.enter(a_sighting(f"/m/{name}.safetensors"))
    jobs = index.jobs_to_recall(10)
    assert [job.real for job in jobs] == ["/m/a.safetensors", "/m/b.safetensors"]
    assert index.jobs_to_recall(10) == []
    index.recalled(jobs[0], HEADER)
    assert index.state().pending == 1
    assert read_all(index) == ["/m/b.safetensors"]
    assert facts_at(index, "/m/a.safetensors").metadata == {"title": "x"}


def test_a_file_that_changed_since_it_was_recalled_is_read(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors", size=100))
    (job,) = index.jobs_to_recall(10)
    index.enter(a_sighting("/m/a.safetensors", size=200))
    index.recalled(job, HEADER)
    assert index.state().by_path == {}
    assert [job.stamp.size_bytes for job in index.jobs_to_recall(10)] == [200]
    assert read_all(index) == ["/m/a.safetensors"]


def test_a_file_that_was_read_already_is_not_offered_for_recall(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors"))
    index.read(take(index), HEADER)
    assert index.jobs_to_recall(10) == []


def test_long_metadata_stay_behind_until_a_model_came_from_the_file(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors"))
    index.read(take(index), LONG)
    assert facts_at(index, "/m/a.safetensors").metadata == {"title": "x"}
    index.enter(a_sighting("/m/a.safetensors"), urgent=True)
    (job,) = index.jobs_to_recall(10)
    assert job.with_all_metadata
    index.recalled(job, LONG)
    assert facts_at(index, "/m/a.safetensors").metadata == LONG.metadata
    index.enter(a_sighting("/m/a.safetensors"), urgent=True)
    assert index.next_job() is None


def test_a_part_that_was_recalled_is_not_enough_once_all_is_wanted(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors"))
    (job,) = index.jobs_to_recall(10)
    index.enter(a_sighting("/m/a.safetensors"), urgent=True)
    index.recalled(job, LONG.brief())
    assert index.state().by_path == {}
    index.read(take(index), LONG)
    assert facts_at(index, "/m/a.safetensors").metadata == LONG.metadata


def test_files_whose_facts_are_older_than_themselves_are_not_compared(index: Index) -> None:
    index.enter(a_sighting("/m/a.safetensors", size=100))
    read_all(index)
    assert [known.facts.path for known in index.known_files()] == ["/m/a.safetensors"]
    index.enter(a_sighting("/m/a.safetensors", size=200))
    assert index.known_files() == []
