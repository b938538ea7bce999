"""Which files were read, by whom, and what is kept of them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

import pytest

from gpumodels.provenance import files_read
from gpumodels.provenance.files_read import FilesRead, SampledFile
from gpumodels.provenance.host_samples import RawSample
from gpumodels_shared.fingerprint import keys_examined

SAMPLE = RawSample("float32", (16,), bytes(64))


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_read, "MAX_KEPT_SAMPLES", 1000)
    monkeypatch.setattr(files_read, "MAX_SAMPLES_OF_ONE", 500)


@pytest.mark.usefixtures("few")
def test_a_file_of_very_many_tensors_drives_no_other_out_and_stays_known_itself() -> None:
    files = FilesRead()
    files.add("/m/small.pt", SampledFile({"weight": SAMPLE}))
    keys = [f"blocks.{number}.weight" for number in range(5000)]
    files.add("/m/huge.pt", SampledFile(dict.fromkeys(keys, SAMPLE)))
    assert files.paths() == ["/m/small.pt", "/m/huge.pt"]
    (huge,) = files.of(["/m/huge.pt"])
    assert huge.values is not None
    assert len(huge.values.tensors) == 500
    assert set(keys_examined(keys)) <= huge.values.tensors.keys()  # what a model's samples are compared with
    assert huge.values.read(keys_examined(keys)[0], 0, 16) == SAMPLE.data


@pytest.mark.usefixtures("few")
def test_of_many_files_the_oldest_are_forgotten() -> None:
    files = FilesRead()
    for number in range(4):
        files.add(f"/m/{number}.pt", SampledFile({f"{key}": SAMPLE for key in range(400)}))
    assert files.paths() == ["/m/2.pt", "/m/3.pt"]


def test_what_a_thread_read_itself_explains_what_it_loads() -> None:
    files = FilesRead()
    files.add("/m/mine.safetensors")
    in_a_thread(lambda: files.add("/m/theirs.safetensors"))
    assert files.take_read_since_load() == ("/m/mine.safetensors",)


def test_what_the_threads_of_a_pool_read_explains_what_another_thread_loads() -> None:
    files = FilesRead()
    for shard in (1, 2):
        in_a_thread(lambda shard=shard: files.add(f"/m/{shard}.safetensors"))  # type: ignore[misc]
    assert files.take_read_since_load() == ("/m/1.safetensors", "/m/2.safetensors")
    assert files.take_read_since_load() == ()


def test_a_thread_that_loads_by_itself_reads_for_nobody_else() -> None:
    files = FilesRead()

    def loads_and_reads_on() -> None:
        files.add("/m/a.safetensors")
        assert files.take_read_since_load() == ("/m/a.safetensors",)
        files.add("/m/b.safetensors")

    in_a_thread(loads_and_reads_on)
    assert files.take_read_since_load() == ()


def test_threads_come_and_go_and_nothing_of_them_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_read, "MAX_FILES", 50)
    files = FilesRead()
    for number in range(3 * files_read.MAX_FILES):
        in_a_thread(lambda number=number: files.add(f"/m/{number}.safetensors"))  # type: ignore[misc]
    assert len(files._since_load) == files_read.MAX_FILES
    assert len(files.take_read_since_load()) == files_read.MAX_FILES


def test_a_new_thread_is_not_taken_for_one_that_ended() -> None:
    files = FilesRead()
    ids: list[int] = []

    def loads(path: str) -> None:
        ids.append(threading.get_ident())
        files.add(path)

    def loads_and_reads_on() -> None:
        loads("/m/a.safetensors")
        files.take_read_since_load()
        loads("/m/late.safetensors")

    in_a_thread(loads_and_reads_on)
    in_a_thread(lambda: loads("/m/b.safetensors"))
    taken: list[tuple[str, ...]] = []
    in_a_thread(lambda: taken.append(files.take_read_since_load()))
    assert taken == [("/m/b.safetensors",)]  # the ids are the same more often than not


def test_threads_that_read_at_the_same_time_lose_nothing() -> None:
    files = FilesRead()
    start = threading.Barrier(8)

    def reads(reader: int) -> None:
        start.wait()
        for number in range(60):
            files.add(f"/m/{reader}-{number}.safetensors")

    threads = [threading.Thread(target=reads, args=(reader,)) for reader in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files.paths()) == files.version == 480
    assert len({file.number for file in files.of(files.paths())}) == 480


class Claimant:
    """Somebody for whom a file may have been read."""


def test_a_file_is_explained_by_a_model_or_once_all_that_claimed_it_are_gone_until_it_is_read_again() -> None:
    files = FilesRead()
    files.add("/m/a.safetensors")
    one, other = Claimant(), Claimant()
    files.claim(("/m/a.safetensors",), weakref.ref(one))
    files.claim(("/m/a.safetensors",), weakref.ref(other))
    del one
    assert not files.is_explained("/m/a.safetensors")
    del other
    assert files.is_explained("/m/a.safetensors")
    late = Claimant()
    files.claim(("/m/a.safetensors",), weakref.ref(late))
    assert files.is_explained("/m/a.safetensors"), "it was read for those that are gone"
    files.add("/m/a.safetensors")
    assert not files.is_explained("/m/a.safetensors")
    files.drop_explained(lambda path: True, is_certain=False)
    assert not files.is_explained("/m/a.safetensors")
    files.drop_explained(lambda path: True)
    assert files.is_explained("/m/a.safetensors")
