"""Tests of the thread that reads, run here in the test's own: the disk, its worker and what they say are made up."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from gpumodels_shared.fingerprint import COARSE_CLOCK_NS, Match
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.catalogue.cache import Cache
from gpumodels_tui.catalogue.facts import CatalogueState, ValuesMatch
from gpumodels_tui.catalogue.ledger import Ledger
from gpumodels_tui.catalogue.reading import FileReading
from gpumodels_tui.catalogue.tree import Sighting, Stamp
from gpumodels_tui.headers.header_reader import FileRead, NoWorkerError, TimedOutError
from gpumodels_tui.headers.headers import FileHeader, UnreadableError, Wanted
from gpumodels_tui.headers.stored_tensors import packed_shapes

MODIFIED_NS = 1_000_000_000
SHAPES = packed_shapes([("float32", (4, 4))])


def a_sighting(path: str, device: int = 1, modified_ns: int = MODIFIED_NS) -> Sighting:
    return Sighting(path, path, Stamp(device, 77, 100, modified_ns, modified_ns))


def a_fingerprint(first: float = 0.0) -> Fingerprint:
    """Of a model that was there long after the files were written."""
    data = struct.pack("<16f", *(first + number for number in range(16)))
    return Fingerprint((TensorSample("w", "float32", (4, 4), data),), MODIFIED_NS + 10 * COARSE_CLOCK_NS)


class ToldReader:
    """Says of each file what it is told to say, and remembers what it was asked."""

    def __init__(self, failures: Mapping[str, Exception] | None = None, match: Match | None = None) -> None:
        self.failures = dict(failures or {})
        self.match = match
        """Between any values and any file."""
        self.read_paths: list[str] = []
        self.compared: list[tuple[str, ...]] = []

    def read(self, path: str, suffix: str | None, wanted: Sequence[Wanted] = ()) -> FileRead:
        self.read_paths.append(path)
        if (failure := self.failures.get(path)) is not None:
            raise failure
        return FileRead(FileHeader("safetensors", {"title": path}, 1, {"float32": 64}, SHAPES), [self.match] * len(wanted))

    def compare(self, wanted: Sequence[Wanted], paths: Sequence[str], suffix: str | None) -> Sequence[Match | None]:
        self.compared.append(tuple(paths))
        for path in paths:
            if (failure := self.failures.get(path)) is not None:
                raise failure
        return [self.match] * len(wanted)

    def close(self) -> None:
        pass


class Read:
    """A reading of these files that ends with the first state of which `until` is true."""

    def __init__(
        self,
        reader: ToldReader,
        sightings: Iterable[Sighting],
        until: Callable[[CatalogueState], bool] = lambda state: not state.pending,
        *,
        wanted: Iterable[Fingerprint] = (),
        when_read: Callable[[FileReading], None] | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.recognised: list[str] = []
        self._until = until
        self._when_read = when_read
        self._ledger = Ledger(0.0, self._changed)
        self._reading = FileReading(self._ledger, reader, cache, self.recognised.extend)
        self._ledger.enter(sightings)
        self._ledger.finish_walk()
        self._reading.find_files_of(wanted)
        self._reading.run()

    @property
    def state(self) -> CatalogueState:
        """The last one that was told."""
        return self._ledger.state

    def _changed(self) -> None:
        if self._when_read is None:
            if self._until(self.state):
                self._ledger.close()
                self._reading.stop()
        elif not self.state.pending:
            when_read, self._when_read = self._when_read, None
            when_read(self._reading)


def is_settled(state: CatalogueState) -> bool:
    return not state.unsettled


def test_all_files_are_read_and_a_broken_one_hides_no_other() -> None:
    reader = ToldReader({"/m/b.safetensors": UnreadableError("invalid JSON")})
    state = Read(reader, [a_sighting(f"/m/{name}.safetensors") for name in "abc"]).state
    assert reader.read_paths == ["/m/a.safetensors", "/m/b.safetensors", "/m/c.safetensors"]
    assert sorted(state.by_path) == ["/m/a.safetensors", "/m/c.safetensors"]
    assert state.warnings == ("/m/b.safetensors: invalid JSON",)


def test_a_file_that_was_read_at_an_earlier_start_is_recalled(tmp_path: Path) -> None:
    for read_paths in (["/m/a.safetensors"], []):
        reader = ToldReader()
        state = Read(reader, [a_sighting("/m/a.safetensors")], cache=Cache(tmp_path / "c.sqlite")).state
        assert (reader.read_paths, state.by_path["/m/a.safetensors"].metadata) == (read_paths, {"title": "/m/a.safetensors"})


def test_a_disk_on_which_two_files_hung_is_left_alone_and_others_are_read() -> None:
    hanging = [f"/hanging/{name}.safetensors" for name in "abcd"]
    reader = ToldReader(dict.fromkeys(hanging, TimedOutError("no answer within 5 s")))
    state = Read(reader, [*map(a_sighting, hanging), a_sighting("/other/e.safetensors", device=2)]).state
    assert reader.read_paths == [*hanging[:2], "/other/e.safetensors"]
    assert list(state.by_path) == ["/other/e.safetensors"]
    assert [warning.partition(": ")[2] for warning in state.warnings] == [
        "no answer within 5 s",
        "no answer within 5 s",
        "its disk does not answer",
        "its disk does not answer",
    ]


def test_without_a_worker_no_file_is_blamed_and_all_still_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels_tui.catalogue.reading.AGAIN_SECONDS", 0.0)
    monkeypatch.setattr("gpumodels_tui.catalogue.ledger.PUBLISH_SECONDS", 0.0)
    reader = ToldReader({"/m/a.safetensors": NoWorkerError("model files can't be read")})
    state = Read(reader, [a_sighting("/m/a.safetensors")], lambda state: bool(state.warnings)).state
    assert (state.warnings, state.pending) == (("model files can't be read",), 1)


def test_a_model_is_known_by_what_its_file_said_when_it_was_read() -> None:
    reader, fingerprint = ToldReader(match=Match(1, 1)), a_fingerprint()
    read = Read(reader, [a_sighting("/m/a.safetensors")], is_settled, wanted=[fingerprint])
    assert read.state.values == {fingerprint: ValuesMatch(("/m/a.safetensors",), (), 1, 1)}
    assert (reader.compared, set(read.recognised)) == ([], {"/m/a.safetensors"})


def test_a_model_that_comes_when_all_files_are_read_is_compared_with_those_that_may_be_its_own() -> None:
    reader, fingerprint = ToldReader(match=Match(1, 1)), a_fingerprint()
    files = [a_sighting("/m/a.safetensors"), a_sighting("/m/later.safetensors", modified_ns=2 * fingerprint.taken_at_ns)]
    read = Read(reader, files, is_settled, when_read=lambda reading: reading.find_files_of([fingerprint]))
    assert read.state.values == {fingerprint: ValuesMatch(("/m/a.safetensors",), (), 1, 1)}
    assert (len(reader.read_paths), reader.compared) == (2, [("/m/a.safetensors",)])
    assert set(read.recognised) == {"/m/a.safetensors"}


def test_what_was_compared_at_an_earlier_start_is_not_compared_again(tmp_path: Path) -> None:
    fingerprint = a_fingerprint()
    for compared in ([("/m/a.safetensors",)], []):
        reader, cache = ToldReader(match=Match(1, 1)), Cache(tmp_path / "c.sqlite")
        files = [a_sighting("/m/a.safetensors")]
        read = Read(reader, files, is_settled, when_read=lambda reading: reading.find_files_of([fingerprint]), cache=cache)
        assert read.state.values == {fingerprint: ValuesMatch(("/m/a.safetensors",), (), 1, 1)}
        assert reader.compared == compared


def compared_in_vain(failure: Exception, until: Callable[[CatalogueState], bool]) -> CatalogueState:
    """What is known of a model when its file, which was read before, fails so."""
    reader = ToldReader(match=Match(1, 1))

    def ask(reading: FileReading) -> None:
        reader.failures["/m/a.safetensors"] = failure
        reading.find_files_of([a_fingerprint()])

    state = Read(reader, [a_sighting("/m/a.safetensors")], until, when_read=ask).state
    assert reader.compared == [("/m/a.safetensors",)]
    assert state.values == {}
    return state


def test_a_file_that_cannot_be_read_any_more_is_not_where_the_values_are_from() -> None:
    state = compared_in_vain(UnreadableError("no such file or directory"), is_settled)
    assert (state.unsettled, state.warnings) == (frozenset(), ())


def test_while_there_is_no_worker_to_compare_with_a_models_file_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumodels_tui.catalogue.reading.AGAIN_SECONDS", 0.0)
    state = compared_in_vain(NoWorkerError("no process for it"), lambda state: bool(state.warnings))
    assert (state.unsettled, state.warnings) == (frozenset((a_fingerprint(),)), ("no process for it",))
