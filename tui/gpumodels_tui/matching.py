"""Which of the catalogue's files a model's values are from: who is compared with whom, what follows. Knows no thread, no disk.

The rule of comparing is `gpumodels_shared.fingerprint`'s. A verdict is given when every file that may be the one was compared, so
that a tie is never taken for an answer; a file written after the values were first seen is not where they came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gpumodels_shared.file_names import checkpoint_of, shards_in_all
from gpumodels_shared.fingerprint import FUSED_AT_MOST, Match, best_files
from gpumodels_shared.schema import Fingerprint
from gpumodels_tui.catalogue.facts import ValuesMatch
from gpumodels_tui.catalogue.index import KnownFile
from gpumodels_tui.catalogue.tree import Stamp

MAX_FINGERPRINTS: Final = 1_000

NO_MATCH: Final = Match(0, 0)

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


@dataclass(slots=True)
class _Search:
    """One fingerprint's."""

    waiting: list[Candidate] = field(default_factory=list)
    compared: dict[Candidate, Match] = field(default_factory=dict)
    verdict: ValuesMatch | None = None


class Matching:
    """All searches. Not thread-safe."""

    def __init__(self) -> None:
        self._searches: dict[Fingerprint, _Search] = {}

    def want(self, fingerprints: Iterable[Fingerprint]) -> bool:
        """Look for the files of these, and of no others; whether any is new, so that files must be looked through for it."""
        wanted = list(dict.fromkeys(fingerprints))[:MAX_FINGERPRINTS]
        is_new = any(fingerprint not in self._searches for fingerprint in wanted)
        self._searches = {one: self._searches.get(one) or _Search() for one in wanted}
        return is_new

    def look_through(self, files: Sequence[KnownFile]) -> None:
        """Decide anew who may be whose; what was compared stands while the files are as they were."""
        groups = candidates_among(files)
        for fingerprint, search in self._searches.items():
            fitting = [
                candidate
                for candidate, shapes in groups
                if all(stamp.modified_ns <= fingerprint.taken_at_ns for _, stamp in candidate.files)
                and may_hold(shapes, fingerprint)
            ]
            search.compared = {one: search.compared[one] for one in fitting if one in search.compared}
            search.waiting = [one for one in fitting if one not in search.compared]
            _judge(search)

    def next_comparison(self) -> Comparison | None:
        """What to compare now; to be answered by `compared`."""
        for fingerprint, search in self._searches.items():
            if search.waiting:
                return Comparison(fingerprint, search.waiting[-1])
        return None

    def compared(self, comparison: Comparison, match: Match | None) -> None:
        """How much agreed; None where it couldn't be found out."""
        search = self._searches.get(comparison.fingerprint)
        if search is None or comparison.candidate not in search.waiting:
            return
        search.waiting.remove(comparison.candidate)
        search.compared[comparison.candidate] = match or NO_MATCH
        _judge(search)

    def verdicts(self) -> dict[Fingerprint, ValuesMatch]:
        """What is known by now."""
        return {one: search.verdict for one, search in self._searches.items() if search.verdict is not None}


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


def _judge(search: _Search) -> None:
    if search.waiting:
        return  # what was said before stands until there is something better to say
    by_name = {candidate.names[0]: candidate for candidate in search.compared}
    matches = {candidate.names[0]: match for candidate, match in search.compared.items()}
    best = best_files(matches)
    search.verdict = None
    if best:
        match = matches[best[0]]
        files = by_name[best[0]].names if len(best) == 1 else ()
        search.verdict = ValuesMatch(files, best if len(best) > 1 else (), match.matched, match.compared)
