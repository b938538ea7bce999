"""Which of the catalogue's files a model's values are from: who is compared with whom, what follows. Knows no thread, no disk.

The rule of comparing is `gpumodels_shared.fingerprint`'s. A verdict is given when every file that may be the one was compared, so
that a tie is never taken for an answer; a file written after the values were first seen is not where they came from.

Work is given file by file, each with all whose values may be from it: what a file costs, it costs once. A model may be made of
several files' (a pair of text encoders, an encoder and a decoder): where no file has all of the values, each of its parts is
looked for by itself, and what all of them are from is the answer. The parts are compared when the whole is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Final

from gpumodels_shared.fingerprint import COARSE_CLOCK_NS, TENSORS, VALUES, Match, best_files, may_hold
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
"""Of a fingerprint's keys and shapes. Who told of more was no sidecar; the reader of the files must hold it all."""

NO_MATCH: Final = Match(0, 0)

MAX_PARTS: Final = 4
MIN_SAMPLES_OF_A_PART: Final = 2

Shape = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Search:
    """One fingerprint's."""

    wanted: Wanted
    values: bytes
    """What its matches are kept under."""
    shapes: tuple[Shape, ...]
    whole: Search | None = None
    """What it is a part of."""
    waiting: dict[bytes, None] = field(default_factory=dict)
    """Candidates still to be compared."""
    compared: dict[bytes, Match] = field(default_factory=dict)
    verdict: ValuesMatch | None = None
    is_settled: bool = False
    """Nothing more will be found out, as long as there are no other files."""
    parts: tuple[Search, ...] = ()
    """What the values may be made of, where no file has them all."""
    in_parts: bool = False
    """No file has them all."""
    is_judged: bool = False
    """`of_whole` and `in_parts` follow from all that is compared."""
    of_whole: ValuesMatch | None = None
    """The files that have the most of it, parts left aside."""

    @property
    def fingerprint(self) -> Fingerprint:
        """What is looked for."""
        return self.wanted.fingerprint

    def is_for(self, modified_ns: int) -> bool:
        """Whether a file written then may be where the values came from."""
        return modified_ns <= self.fingerprint.taken_at_ns - COARSE_CLOCK_NS

    @property
    def is_of_use(self) -> bool:
        """Whether what it finds counts, or may count."""
        return self.whole is None or self.whole.in_parts or not self.whole.is_judged


@dataclass(frozen=True, slots=True)
class Comparison:
    """One thing to do: a candidate, and all that are to be compared with it."""

    candidate: Candidate
    searches: tuple[Search, ...]

    @property
    def wanted(self) -> list[Wanted]:
        """As the worker wants them."""
        return [search.wanted for search in self.searches]


class Matching:
    """All searches. Not thread-safe."""

    def __init__(self) -> None:
        self._numbers = count()
        self._searches: dict[Fingerprint, Search] = {}
        self._all: list[Search] = []
        """With their parts, in the order in which they are wanted."""
        self._candidates: dict[bytes, Candidate] = {}
        self._may_hold: dict[tuple[PackedShapes, tuple[Shape, ...]], bool] = {}
        self.changes = 0
        """Counts what changes the verdicts, or what is settled."""

    def want(self, fingerprints: Iterable[Fingerprint]) -> None:
        """Look for the files of these, and of no others: of new ones when files are looked through again."""
        before = self._searches
        self._searches = {one: before.get(one) or self._search_for(one) for one in sought_after(fingerprints)}
        self._all = [one for search in self._searches.values() for one in (search, *search.parts)]
        self.changes += 1

    def for_a_file_of(self, modified_ns: int) -> list[Search]:
        """All whose values a file written then may hold."""
        return [search for search in self._all if search.is_for(modified_ns)]

    def look_through(self, files: Sequence[KnownFile]) -> list[Search]:
        """Decide anew who may be whose; what was compared stands while the files are as they were. Those that wait."""
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
        """What to compare now, for the first who waits; to be answered by `compared`."""
        of_use = [search for search in self._all if search.waiting and search.is_of_use]
        first = next((search for search in of_use if search.whole is None or search.whole.in_parts), None)
        if first is None:
            return None
        key = next(reversed(first.waiting))
        return Comparison(self._candidates[key], tuple(search for search in of_use if key in search.waiting))

    def compared(self, comparison: Comparison, matches: Sequence[Match | None]) -> None:
        """How much agreed, for the first so many; None where it can't be, or couldn't be found out."""
        key = comparison.candidate.key
        for search, match in zip(comparison.searches, matches, strict=False):
            search.waiting.pop(key, None)
            search.compared[key] = match or NO_MATCH
        for search in dict.fromkeys(search.whole or search for search in comparison.searches):
            self._judge(search)

    def read(self, key: bytes, searches: Sequence[Search], matches: Sequence[Match | None]) -> None:
        """How much agreed, as `compared`, with a file that was just read: it counts when files are looked through."""
        for search, match in zip(searches, matches, strict=False):
            if match is not None:
                search.compared[key] = match

    def recalled(self, matches: Mapping[bytes, Mapping[bytes, Match]]) -> None:
        """How much agreed when it was compared before: by the values' keys, by the candidates' keys."""
        for search in self._all:
            if kept := matches.get(search.values):
                for key in [key for key in search.waiting if key in kept]:
                    del search.waiting[key]
                    search.compared[key] = kept[key]
        self._judge_all()

    def verdicts(self) -> dict[Fingerprint, ValuesMatch]:
        """What is known by now."""
        return {one: search.verdict for one, search in self._searches.items() if search.verdict is not None}

    def unsettled(self) -> frozenset[Fingerprint]:
        """Those of which more may be known soon."""
        return frozenset(one for one, search in self._searches.items() if not search.is_settled)

    def _search_for(self, fingerprint: Fingerprint) -> Search:
        whole = self._search(fingerprint, None)
        whole.parts = tuple(self._search(part, whole) for part in parts_of(fingerprint))
        return whole

    def _search(self, fingerprint: Fingerprint, whole: Search | None) -> Search:
        shapes = tuple(sorted(tuple(sample.shape) for sample in fingerprint.samples))
        return Search(Wanted(next(self._numbers), fingerprint), values_key(fingerprint), shapes, whole)

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
        """Asked once for all models, and all files, of the same shapes."""
        asked = (shapes, search.shapes)
        found = self._may_hold.get(asked)
        if found is None:
            there = (shape for packed in shapes for shape in unpacked_shapes(packed))
            found = self._may_hold[asked] = may_hold(there, search.shapes)
        return found

    def _judge_all(self) -> None:
        for search in self._searches.values():
            self._judge(search)

    def _judge(self, search: Search) -> None:
        was = (search.verdict, search.is_settled)
        search.is_settled = False
        if not search.waiting:  # what was said before stands until there is something better to say
            if not search.is_judged:
                search.of_whole, search.is_judged = self._verdict_on(search), True
                search.in_parts = bool(search.parts) and not _is_all_of_it(search.of_whole)
            if not (search.in_parts and any(part.waiting for part in search.parts)):
                search.verdict, search.is_settled = self._whole_or_parts(search), True
        self.changes += was != (search.verdict, search.is_settled)

    def _whole_or_parts(self, search: Search) -> ValuesMatch | None:
        whole = search.of_whole
        made_of = _made_of([self._verdict_on(part) for part in search.parts]) if search.in_parts else None
        return made_of if made_of is not None and (whole is None or made_of.matched > whole.matched) else whole

    def _verdict_on(self, search: Search) -> ValuesMatch | None:
        """The files that agree best, or none well enough."""
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


def _is_all_of_it(verdict: ValuesMatch | None) -> bool:
    return verdict is not None and verdict.matched == verdict.compared


def sought_after(fingerprints: Iterable[Fingerprint]) -> tuple[Fingerprint, ...]:
    """Those that are looked for, each once."""
    return tuple(dict.fromkeys(filter(_is_of_a_sidecar, fingerprints)))[:MAX_FINGERPRINTS]


def _is_of_a_sidecar(fingerprint: Fingerprint) -> bool:
    samples = fingerprint.samples
    return (
        len(samples) <= MAX_SAMPLES
        and all(len(sample.data) <= MAX_SAMPLE_BYTES for sample in samples)
        and sum(len(sample.key) + 8 * len(sample.shape) for sample in samples) <= MAX_NAMES_BYTES
    )


def parts_of(fingerprint: Fingerprint) -> tuple[Fingerprint, ...]:
    """The samples by what their keys begin with behind what all begin with; none where these are no parts but a few layers."""
    keys = [sample.key.split(".") for sample in fingerprint.samples]
    depth = sum(1 for _ in takewhile(lambda words: len(set(words)) == 1, zip(*keys, strict=False)))
    parts: dict[str, list[TensorSample]] = {}
    for key, sample in zip(keys, fingerprint.samples, strict=True):
        parts.setdefault(key[depth] if depth < len(key) else "", []).append(sample)
    if not 2 <= len(parts) <= MAX_PARTS or min(map(len, parts.values())) < MIN_SAMPLES_OF_A_PART:
        return ()
    return tuple(Fingerprint(tuple(samples), fingerprint.taken_at_ns) for _, samples in sorted(parts.items()))


def _made_of(parts: Sequence[ValuesMatch | None]) -> ValuesMatch | None:
    """What a model is from whose parts are from one file or another, each of them."""
    found = [part for part in parts if part is not None]
    if not found or len(found) < len(parts):
        return None
    matched, compared = sum(part.matched for part in found), sum(part.compared for part in found)
    together = tuple(dict.fromkeys(part.files for part in found))
    files = tuple(dict.fromkeys(path for part in found for path in (*part.files, *part.candidates)))
    if () in together:  # one that can't be told from another leaves it open what the whole is
        return ValuesMatch((), files, matched, compared)
    return ValuesMatch(files, (), matched, compared, together if len(together) > 1 else ())
