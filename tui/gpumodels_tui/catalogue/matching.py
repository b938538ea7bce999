"""Decides which files a model's values are compared with, and which of them it came from. Uses no thread and no disk.

How values are compared is decided in `gpumodels_shared.fingerprint`. There is no verdict until every possible file has been
compared, so that a tie is never missed; a file written after the values were first seen can't be where they came from.

Comparisons are handed out file by file, each with all models that may come from that file, so that every file is read once. A
model may be composed of several files (two text encoders, or an encoder and a decoder): if no file has all of its values, each
part is searched for on its own, and the verdict names the files of all parts. Parts are compared together with their model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Final

from gpumodels_shared.fingerprint import COARSE_CLOCK_NS, TENSORS, VALUES, Match, best_files, shapes_may_match
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.catalogue.candidates import Candidate, PackedShapes, candidates_among
from gpumodels_tui.catalogue.facts import ValuesMatch
from gpumodels_tui.catalogue.index import KnownFile
from gpumodels_tui.catalogue.kept_matches import values_key
from gpumodels_tui.headers.headers import Wanted
from gpumodels_tui.headers.stored_tensors import unpacked_shapes

MAX_FINGERPRINTS: Final = 1_000

MAX_SAMPLES: Final = 2 * TENSORS
MAX_SAMPLE_BYTES: Final = 8 * VALUES
MAX_NAMES_BYTES: Final = 32 * 1024
"""The limit for a fingerprint's keys and shapes. No sidecar sends more, and the header worker must hold all of them."""

NO_MATCH: Final = Match(0, 0)

MAX_PARTS: Final = 4
MIN_SAMPLES_OF_A_PART: Final = 2

Shape = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Search:
    """The search for the files of one model, or of one part of it."""

    wanted: Wanted
    values: bytes
    """The key under which its matches are cached."""
    shapes: tuple[Shape, ...]
    parent: Search | None = None
    """The search for the entire model, if this one is for a part."""
    waiting: dict[bytes, None] = field(default_factory=dict)
    """Candidates still to be compared."""
    compared: dict[bytes, Match] = field(default_factory=dict)
    verdict: ValuesMatch | None = None
    is_settled: bool = False
    """Whether the verdict is final unless the files change."""
    parts: tuple[Search, ...] = ()
    """Searches for the model's possible parts."""
    is_composite: bool = False
    """Whether no file has all values, so that the parts count."""
    is_judged: bool = False
    """Whether `whole_verdict` and `is_composite` take all comparisons into account."""
    whole_verdict: ValuesMatch | None = None
    """The files that have the most of the entire model's values, without regard to parts."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The sampled values to find."""
        return self.wanted.fingerprint

    def is_for(self, modified_ns: int) -> bool:
        """Whether a file written at this time can be where the values came from."""
        return modified_ns <= self.fingerprint.taken_at_ns - COARSE_CLOCK_NS

    @property
    def is_of_use(self) -> bool:
        """Whether its result may matter; that of a part doesn't once some file has all values."""
        return self.parent is None or self.parent.is_composite or not self.parent.is_judged


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate, and all searches to compare with it."""

    candidate: Candidate
    searches: tuple[Search, ...]

    @property
    def wanted(self) -> list[Wanted]:
        """The fingerprints in the form that the header worker takes."""
        return [search.wanted for search in self.searches]


class Matching:
    """All searches. Not thread-safe."""

    def __init__(self) -> None:
        self._numbers = count()
        self._searches: dict[Fingerprint, Search] = {}
        self._all: list[Search] = []
        """Searches, each followed by its parts, in the order of the fingerprints."""
        self._candidates: dict[bytes, Candidate] = {}
        self._may_hold: dict[tuple[PackedShapes, tuple[Shape, ...]], bool] = {}
        self.changes = 0
        """Counts changes of verdicts, and of whether they are settled."""

    def want(self, fingerprints: Iterable[Fingerprint]) -> None:
        """Replace the fingerprints to search for. New ones are matched with files at the next `find_candidates`."""
        before = self._searches
        self._searches = {one: before.get(one) or self._search_for(one) for one in fingerprints_within_limits(fingerprints)}
        self._all = [one for search in self._searches.values() for one in (search, *search.parts)]
        self.changes += 1

    def searches_for(self, modified_ns: int) -> list[Search]:
        """The searches whose values a file written at this time may hold."""
        return [search for search in self._all if search.is_for(modified_ns)]

    def find_candidates(self, files: Sequence[KnownFile]) -> list[Search]:
        """Find the candidates of each search again; results for unchanged files are kept. Returns the searches that wait."""
        candidates = candidates_among(files)
        self._candidates = {candidate.key: candidate for candidate in candidates}
        self._may_hold = {}
        by_shapes: dict[PackedShapes, list[tuple[int, bytes]]] = {}
        for candidate in candidates:
            by_shapes.setdefault(candidate.shapes, []).append((candidate.modified_ns, candidate.key))
        for search in self._all:
            self._begin(search, by_shapes)
        self._judge_all()
        return [search for search in self._all if search.waiting]

    def next_comparison(self) -> Comparison | None:
        """The next comparison to make, for the first search that waits; report its result to `compared`."""
        useful = [search for search in self._all if search.waiting and search.is_of_use]
        first = next((search for search in useful if search.parent is None or search.parent.is_composite), None)
        if first is None:
            return None
        key = next(reversed(first.waiting))
        return Comparison(self._candidates[key], tuple(search for search in useful if key in search.waiting))

    def compared(self, comparison: Comparison, matches: Sequence[Match | None]) -> None:
        """Enter a comparison's results, one for each search; None counts as no match. Searches without a result wait on."""
        key = comparison.candidate.key
        for search, match in zip(comparison.searches, matches, strict=False):
            search.waiting.pop(key, None)
            search.compared[key] = match or NO_MATCH
        for search in dict.fromkeys(search.parent or search for search in comparison.searches):
            self._judge(search)

    def read(self, key: bytes, searches: Sequence[Search], matches: Sequence[Match | None]) -> None:
        """Enter the results for a file that was just read; they count from the next `find_candidates`. None is ignored."""
        for search, match in zip(searches, matches, strict=False):
            if match is not None:
                search.compared[key] = match

    def recalled(self, matches: Mapping[bytes, Mapping[bytes, Match]]) -> None:
        """Enter cached results: by values' keys, then by candidates' keys."""
        for search in self._all:
            if kept := matches.get(search.values):
                for key in [key for key in search.waiting if key in kept]:
                    del search.waiting[key]
                    search.compared[key] = kept[key]
        self._judge_all()

    def verdicts(self) -> dict[Fingerprint, ValuesMatch]:
        """All verdicts so far."""
        return {one: search.verdict for one, search in self._searches.items() if search.verdict is not None}

    def unsettled(self) -> frozenset[Fingerprint]:
        """The fingerprints whose verdicts may still change without a change of files."""
        return frozenset(one for one, search in self._searches.items() if not search.is_settled)

    def _search_for(self, fingerprint: Fingerprint) -> Search:
        parent = self._search(fingerprint, None)
        parent.parts = tuple(self._search(part, parent) for part in parts_of(fingerprint))
        return parent

    def _search(self, fingerprint: Fingerprint, parent: Search | None) -> Search:
        shapes = tuple(sorted(tuple(sample.shape) for sample in fingerprint.samples))
        return Search(Wanted(next(self._numbers), fingerprint), values_key(fingerprint), shapes, parent)

    def _begin(self, search: Search, by_shapes: Mapping[PackedShapes, Sequence[tuple[int, bytes]]]) -> None:
        fitting = [
            key
            for shapes, candidates in by_shapes.items()
            if self._may_be_in(shapes, search)
            for modified_ns, key in candidates
            if search.is_for(modified_ns)
        ]
        search.compared = {key: search.compared[key] for key in fitting if key in search.compared}
        search.waiting = {key: None for key in fitting if key not in search.compared}
        search.is_judged = False

    def _may_be_in(self, shapes: PackedShapes, search: Search) -> bool:
        """Whether files of these shapes may hold the values; computed once for each pair of shapes."""
        key = (shapes, search.shapes)
        found = self._may_hold.get(key)
        if found is None:
            file_shapes = (shape for packed in shapes for shape in unpacked_shapes(packed))
            found = self._may_hold[key] = shapes_may_match(file_shapes, search.shapes)
        return found

    def _judge_all(self) -> None:
        for search in self._searches.values():
            self._judge(search)

    def _judge(self, search: Search) -> None:
        before = (search.verdict, search.is_settled)
        search.is_settled = False
        if not search.waiting:  # until then the earlier verdict stands
            if not search.is_judged:
                search.whole_verdict, search.is_judged = self._verdict_on(search), True
                search.is_composite = bool(search.parts) and not _is_complete(search.whole_verdict)
            if not (search.is_composite and any(part.waiting for part in search.parts)):
                search.verdict, search.is_settled = self._best_verdict(search), True
        self.changes += before != (search.verdict, search.is_settled)

    def _best_verdict(self, search: Search) -> ValuesMatch | None:
        whole = search.whole_verdict
        combined = _combined([self._verdict_on(part) for part in search.parts]) if search.is_composite else None
        return combined if combined is not None and (whole is None or combined.matched > whole.matched) else whole

    def _verdict_on(self, search: Search) -> ValuesMatch | None:
        """The verdict from this search's comparisons: the files that match best; None if none match well enough."""
        by_name = {
            candidate.names[0]: (candidate, match)
            for key, match in search.compared.items()
            if match.matched and (candidate := self._candidates.get(key)) is not None
        }
        best = best_files({name: match for name, (_, match) in by_name.items()})
        if not best:
            return None
        match = max((by_name[name][1] for name in best), key=lambda one: one.matched)
        files = by_name[best[0]][0].names if len(best) == 1 else ()
        return ValuesMatch(files, best if len(best) > 1 else (), match.matched, match.compared)


def _is_complete(verdict: ValuesMatch | None) -> bool:
    return verdict is not None and verdict.matched == verdict.compared


def fingerprints_within_limits(fingerprints: Iterable[Fingerprint]) -> tuple[Fingerprint, ...]:
    """The first `MAX_FINGERPRINTS` distinct fingerprints that are within the limits."""
    return tuple(dict.fromkeys(filter(_is_within_limits, fingerprints)))[:MAX_FINGERPRINTS]


def _is_within_limits(fingerprint: Fingerprint) -> bool:
    samples = fingerprint.samples
    return (
        len(samples) <= MAX_SAMPLES
        and all(len(sample.data) <= MAX_SAMPLE_BYTES for sample in samples)
        and sum(len(sample.key) + 8 * len(sample.shape) for sample in samples) <= MAX_NAMES_BYTES
    )


def parts_of(fingerprint: Fingerprint) -> tuple[Fingerprint, ...]:
    """Split the samples by the first word of their keys that isn't common to all; empty if these are layers, not parts."""
    keys = [sample.key.split(".") for sample in fingerprint.samples]
    depth = sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, zip(*keys, strict=False)))
    parts: dict[str, list[TensorSample]] = {}
    for key, sample in zip(keys, fingerprint.samples, strict=True):
        parts.setdefault(key[depth] if depth < len(key) else "", []).append(sample)
    if not 2 <= len(parts) <= MAX_PARTS or min(map(len, parts.values())) < MIN_SAMPLES_OF_A_PART:
        return ()
    return tuple(Fingerprint(tuple(samples), fingerprint.taken_at_ns) for _, samples in sorted(parts.items()))


def _combined(parts: Sequence[ValuesMatch | None]) -> ValuesMatch | None:
    """The verdict on a model from those on its parts; None unless each part has one."""
    found = [part for part in parts if part is not None]
    if not found or len(found) < len(parts):
        return None
    matched, compared = sum(part.matched for part in found), sum(part.compared for part in found)
    files_by_part = tuple(dict.fromkeys(part.files for part in found))
    files = tuple(dict.fromkeys(path for part in found for path in (*part.files, *part.candidates)))
    if () in files_by_part:  # a part with a tie leaves the entire model undecided
        return ValuesMatch((), files, matched, compared)
    return ValuesMatch(files, (), matched, compared, files_by_part if len(files_by_part) > 1 else ())
