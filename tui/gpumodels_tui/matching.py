"""Which of the catalogue's files a model's values are from: who is compared with whom, what follows. Knows no thread, no disk.

The rule of comparing is `gpumodels_shared.fingerprint`'s. A verdict is given when every file that may be the one was compared, so
that a tie is never taken for an answer; a file written after the values were first seen is not where they came from.

A model may be made of several files' (a pair of text encoders, an encoder and a decoder): where no file has all of the values,
each of its parts is looked for by itself, and what all of them are from is the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

import msgspec

from gpumodels_shared.file_names import checkpoint_of, shards_in_all
from gpumodels_shared.fingerprint import COARSE_CLOCK_NS, FUSED_AT_MOST, Match, best_files
from gpumodels_shared.schema import Fingerprint, TensorSample
from gpumodels_tui.catalogue.facts import ValuesMatch
from gpumodels_tui.catalogue.index import KnownFile
from gpumodels_tui.catalogue.tree import Stamp

MAX_FINGERPRINTS: Final = 1_000

NO_MATCH: Final = Match(0, 0)

MAX_PARTS: Final = 4
MIN_SAMPLES_OF_A_PART: Final = 2

_SHAPES: Final = msgspec.msgpack.Decoder(tuple[tuple[int, ...], ...])

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file, or the shards of one model, that may hold the values."""

    files: tuple[tuple[str, Stamp], ...]
    """Real paths."""
    names: tuple[str, ...]
    suffix: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One thing to do."""

    fingerprint: Fingerprint
    candidate: Candidate
    whole: Fingerprint
    """What the fingerprint is a part of, or itself."""


@dataclass(slots=True)
class _Search:
    """One fingerprint's."""

    waiting: dict[Candidate, None] = field(default_factory=dict)
    """Still to be compared; the last first."""
    compared: dict[Candidate, Match] = field(default_factory=dict)
    verdict: ValuesMatch | None = None
    parts: dict[Fingerprint, _Search] = field(default_factory=dict)
    """The searches for what the values may be made of, where no file has them all."""


class Matching:
    """All searches. Not thread-safe."""

    def __init__(self) -> None:
        self._searches: dict[Fingerprint, _Search] = {}
        self._groups: list[tuple[Candidate, frozenset[Shape]]] = []

    def want(self, fingerprints: Iterable[Fingerprint]) -> bool:
        """Look for the files of these, and of no others; whether any is new, so that files must be looked through for it."""
        wanted = list(dict.fromkeys(fingerprints))[:MAX_FINGERPRINTS]
        is_new = any(fingerprint not in self._searches for fingerprint in wanted)
        self._searches = {one: self._searches.get(one) or _Search() for one in wanted}
        return is_new

    def look_through(self, files: Sequence[KnownFile]) -> None:
        """Decide anew who may be whose; what was compared stands while the files are as they were."""
        self._groups = candidates_among(files)
        for fingerprint, search in self._searches.items():
            for one, its in ((fingerprint, search), *search.parts.items()):
                self._begin(one, its)
            self._judge(fingerprint, search)

    def next_comparison(self) -> Comparison | None:
        """What to compare now; to be answered by `compared`."""
        for fingerprint, search in self._searches.items():
            for one, its in ((fingerprint, search), *search.parts.items()):
                if its.waiting:
                    return Comparison(one, next(reversed(its.waiting)), fingerprint)
        return None

    def waiting_with(self, comparison: Comparison) -> tuple[Candidate, ...]:
        """All that the comparison's fingerprint is still to be compared with."""
        its = self._search_of(comparison)
        return () if its is None else tuple(its.waiting)

    def compared(self, comparison: Comparison, match: Match | None) -> None:
        """How much agreed; None where it couldn't be found out."""
        self.recalled(comparison, {comparison.candidate: match or NO_MATCH})

    def recalled(self, comparison: Comparison, matches: Mapping[Candidate, Match]) -> None:
        """How much of the comparison's fingerprint agreed with these, as was found out before."""
        search, its = self._searches.get(comparison.whole), self._search_of(comparison)
        if search is None or its is None:
            return
        for candidate, match in matches.items():
            if candidate in its.waiting:
                del its.waiting[candidate]
                its.compared[candidate] = match
        self._judge(comparison.whole, search)

    def _search_of(self, comparison: Comparison) -> _Search | None:
        search = self._searches.get(comparison.whole)
        if search is None or comparison.fingerprint == comparison.whole:
            return search
        return search.parts.get(comparison.fingerprint)

    def verdicts(self) -> dict[Fingerprint, ValuesMatch]:
        """What is known by now."""
        return {one: search.verdict for one, search in self._searches.items() if search.verdict is not None}

    def _begin(self, fingerprint: Fingerprint, search: _Search) -> None:
        fitting = [
            candidate
            for candidate, shapes in self._groups
            if all(stamp.modified_ns <= fingerprint.taken_at_ns - COARSE_CLOCK_NS for _, stamp in candidate.files)
            and may_hold(shapes, fingerprint)
        ]
        search.compared = {one: search.compared[one] for one in fitting if one in search.compared}
        search.waiting = {one: None for one in fitting if one not in search.compared}

    def _judge(self, fingerprint: Fingerprint, search: _Search) -> None:
        if search.waiting:
            return  # what was said before stands until there is something better to say
        verdict = _verdict_on(search)
        if verdict is not None and verdict.matched == verdict.compared:
            search.parts = {}
        elif not search.parts and (parts := parts_of(fingerprint)):
            search.parts = {part: _Search() for part in parts}
            for part, its in search.parts.items():
                self._begin(part, its)
        if not any(its.waiting for its in search.parts.values()):
            made_of = _made_of([_verdict_on(its) for its in search.parts.values()])
            is_more = made_of is not None and (verdict is None or made_of.matched > verdict.matched)
            search.verdict = made_of if is_more else verdict


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


def candidates_among(files: Sequence[KnownFile]) -> list[tuple[Candidate, frozenset[Shape]]]:
    """Files whose values can be read, the shards of one model as one, each with the shapes that it holds."""
    by_name = {name: file for file in files for name in (file.facts.path, *file.facts.aliases)}
    groups: list[list[KnownFile]] = []
    in_groups: set[str] = set()
    for file in files:
        shards = _shards(file, by_name)
        if shards:
            groups.append(shards)
            in_groups.update(shard.facts.path for shard in shards)
    numbered: dict[str, list[KnownFile]] = {}
    for file in files:
        if file.facts.path not in in_groups:
            numbered.setdefault(checkpoint_of(file.name) if shards_in_all(file.name) else file.facts.path, []).append(file)
    for together in numbered.values():
        is_whole = len(together) == shards_in_all(together[0].name)
        groups += [sorted(together, key=lambda file: file.name)] if is_whole else [[file] for file in together]
    return [
        (
            Candidate(tuple((one.facts.path, one.stamp) for one in group), tuple(one.name for one in group), group[0].suffix),
            frozenset(shape for one in group for shape in _SHAPES.decode(one.facts.shapes)),
        )
        for group in groups
        if all(one.facts.shapes for one in group)
    ]


def may_hold(shapes: frozenset[Shape], fingerprint: Fingerprint) -> bool:
    """Whether half of the samples have a tensor that they could be from: less than that is no match, whatever the values."""
    heights: dict[Shape, list[int]] = {}
    for shape in shapes:
        if shape:
            heights.setdefault(shape[1:], []).append(shape[0])
    places = sum(
        any(_is_within(sample.shape[0], height) for height in heights.get(sample.shape[1:], ()))
        for sample in fingerprint.samples
        if sample.shape
    )
    return places > 0 and 2 * places >= len(fingerprint.samples)


def _is_within(one: int, other: int) -> bool:
    """Whether tensors so high may be the same, or one of them a part of the other."""
    return one == other or 0 < max(one, other) <= FUSED_AT_MOST * min(one, other)


def _shards(index: KnownFile, by_name: Mapping[str, KnownFile]) -> list[KnownFile]:
    """The files that an index lists, where all of them are there."""
    for name in (index.facts.path, *index.facts.aliases):
        directory = name.rpartition("/")[0]
        found = [by_name[path] for shard in index.facts.shards if (path := f"{directory}/{shard}") in by_name]
        if found and len(found) == len(index.facts.shards):
            return found
    return []


def _verdict_on(search: _Search) -> ValuesMatch | None:
    """The files that agree best, or none well enough."""
    by_name = {candidate.names[0]: candidate for candidate in search.compared}
    matches = {candidate.names[0]: match for candidate, match in search.compared.items()}
    best = best_files(matches)
    if not best:
        return None
    match = max((matches[name] for name in best), key=lambda one: one.matched)
    files = by_name[best[0]].names if len(best) == 1 else ()
    return ValuesMatch(files, best if len(best) > 1 else (), match.matched, match.compared)


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
