"""Recognising a model whose loading wasn't seen: by its values, in the files that this process read or that its config names.

Nothing is guessed: values agree exactly or not at all, and where they can't be had, names and shapes count only if a single
file has them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from gpumodels.models.assembling import FoundModel
from gpumodels.naming.choose_name import MatchedFiles
from gpumodels.naming.model_samples import ModelSamples, SampleReader
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.provenance.checkpoint_values import READABLE, CheckpointValues
from gpumodels.provenance.files_read import ReadFile
from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.resident import resident
from gpumodels_shared.file_names import checkpoint_of
from gpumodels_shared.fingerprint import COARSE_CLOCK_NS, Match, SoughtSample, best_files, same_names_and_shapes, sought
from gpumodels_shared.schema import Fingerprint

MAX_CONFIG_FILES: Final = 64
READ_BEFORE_NS: Final = 120 * 10**9
"""How long before a model is built the file may be read that is loaded into it."""


@resident
class FileMatching:
    """Compares. Of models it remembers nothing."""

    def __init__(
        self,
        registry: ModuleRegistry,
        origin_tracker: OriginTracker,
        checkpoints: CheckpointValues,
        own: SampleReader,
        pause: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._origin_tracker = origin_tracker
        self._checkpoints = checkpoints
        self._own = own
        self._pause = pause

    def recognise(
        self, found: FoundModel, values: ModelSamples, places: Sequence[str], before: MatchedFiles | None = None
    ) -> MatchedFiles:
        """What the model's values tell. Holds no module or tensor while it pauses.

        Args:
            found: the model.
            values: its samples.
            places: where its config and its pipeline say that it was loaded from; the files there are looked at too.
            before: what they told the last time: the same values are as old as they were then, and are compared only with
                files that came since.
        """
        groups = self._origin_tracker.files_read.groups()
        if not values.samples:
            refs = (self._registry.ref(found.core), self._registry.ref(found.root))
            among = self._origin_tracker.read_for(*(ref() for ref in refs if ref is not None))
            return self._by_shapes(found, groups, among)
        named = [path for place in places for path in _files_at(place)]
        for path in named:
            known = groups.get(checkpoint_of(path), ())
            if path not in {file.path for file in known}:
                groups[checkpoint_of(path)] = (*known, ReadFile(path, 0, None))
        fingerprint = Fingerprint(values.samples, self._first_seen_ns(found, values))
        matches: dict[str, tuple[tuple[int, ...], Match]] = {}
        if before is not None and before.fingerprint is not None and before.fingerprint.samples == values.samples:
            if before.match is not None and before.match.is_whole:
                return before
            fingerprint = before.fingerprint
            matches.update(before.matches)
        there = {
            whole for whole, files in groups.items() if any(was_read(place, [file.path for file in files]) for place in places)
        }
        there.update(map(checkpoint_of, named))
        contradicting = False
        samples = sought(fingerprint)
        for whole, files in groups.items():
            self._pause()
            match, has_them_all = self._compared(fingerprint, samples, whole, files, matches, whole in there)
            contradicting |= has_them_all and not (match.is_whole or match.is_patched)
        best = best_files({whole: match for whole, (_, match) in matches.items() if whole in groups})
        paths = tuple(file.path for whole in best for file in groups[whole])
        most = max((matches[whole][1] for whole in best), key=lambda match: match.matched, default=None)
        return MatchedFiles(fingerprint, paths, most, contradicting and not best, matches)

    def _first_seen_ns(self, found: FoundModel, values: ModelSamples) -> int:
        """Now, unless the model held these values already when they were saved."""
        saved_ns = self._origin_tracker.saved.first_ns(RawSample(one.dtype, one.shape, one.data) for one in values.samples)
        if saved_ns is not None and self._registry.born_ns(found.core) < saved_ns:
            return saved_ns - COARSE_CLOCK_NS  # the file's own time may lag behind
        return time.time_ns()

    def _compared(
        self,
        fingerprint: Fingerprint,
        samples: Sequence[SoughtSample],
        whole: str,
        files: Sequence[ReadFile],
        matches: dict[str, tuple[tuple[int, ...], Match]],
        is_claimed: bool,
    ) -> tuple[Match, bool]:
        """How the checkpoint agrees, and whether it has tensors of all these names and shapes (of what a config names only)."""
        numbers = tuple(file.number for file in files)
        known = matches.get(whole)
        if known is not None and known[0] == numbers and not is_claimed:
            return known[1], False
        match, has_them_all = Match(0, len(fingerprint.samples)), False
        if not any(_written_after(file, fingerprint.taken_at_ns) for file in files):
            with self._checkpoints.values_of(whole, files) as in_file:
                if in_file is not None:
                    with suppress(OSError):  # it went just now: no evidence
                        match = self._checkpoints.match(whole, files, in_file, samples)
                        wanted = {sample.key: sample.shape for sample in fingerprint.samples}
                        has_them_all = is_claimed and same_names_and_shapes(wanted, in_file.tensors)
        matches[whole] = numbers, match
        return match, has_them_all

    def _by_shapes(
        self, found: FoundModel, groups: Mapping[str, Sequence[ReadFile]], among: tuple[str, ...] | None
    ) -> MatchedFiles:
        """Its values are out of reach: the one file that has a tensor of its name and shape for each of its own.

        Args:
            found: the model.
            groups: files by checkpoint.
            among: those that may be it; None for all.
        """
        wanted = dict(self._own.shapes(found))
        since_ns = self._registry.born_ns(found.core) - READ_BEFORE_NS
        fitting: list[str] = []
        for whole, files in groups.items():
            self._pause()
            if any(0 < file.read_ns < since_ns for file in files) or (among is not None and not set(among) & _paths(files)):
                continue  # read long before there was such a model, or for another one
            with self._checkpoints.values_of(whole, files) as in_file:
                if in_file is not None and wanted and same_names_and_shapes(wanted, in_file.tensors):
                    fitting.append(whole)
        return MatchedFiles(None, tuple(file.path for whole in fitting for file in groups[whole]))


def _paths(files: Sequence[ReadFile]) -> set[str]:
    return {file.path for file in files}


def _written_after(file: ReadFile, moment_ns: int) -> bool:
    """Whether the file is younger than the values: then they were saved to it, not loaded from it."""
    if file.stamp is not None:
        return file.stamp.modified_ns > moment_ns - COARSE_CLOCK_NS
    try:
        return os.stat(file.path).st_mtime_ns > moment_ns - COARSE_CLOCK_NS
    except OSError:
        return False  # it was removed after it was read


def was_read(place: str, paths: Sequence[str]) -> bool:
    """Whether one of these files, which this process read, lies where a config says that its model was loaded from."""
    place = place.strip().rstrip("/")
    try:
        directory = os.path.abspath(place)  # noqa: PTH100 — symlinks stay
    except OSError:  # the working directory was removed: what is relative to it is nowhere
        directory = place
    repository = f"/models--{place.replace('/', '--')}/"
    return any(
        path == directory or path.startswith(directory + "/") or repository in path or ("/" in place and f"/{place}/" in path)
        for path in paths
    )


def _files_at(stated: str) -> tuple[str, ...]:
    """The safetensors files in the directory that a config names, and one level below it; of the hub, in its cache.

    None of them where that can't be looked at: what a config says may be no path at all, too long for one, or nobody's to read.
    """
    try:
        return _files_below(stated.strip())
    except (OSError, ValueError):
        return ()


def _files_below(stated: str) -> tuple[str, ...]:
    roots = [Path(stated)] if os.path.isabs(stated) or stated.startswith(("./", "../")) or Path(stated).is_dir() else []  # noqa: PTH117
    if not roots and stated.count("/") <= 1:
        home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
        cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
        snapshots = cache / f"models--{stated.replace('/', '--')}" / "snapshots"
        roots = sorted(snapshots.iterdir()) if snapshots.is_dir() else []
    found: list[str] = []
    for root in roots:
        if root.suffix in READABLE and root.is_file():
            found.append(os.path.abspath(root))  # noqa: PTH100 — symlinks stay
        elif root.is_dir():
            for directory in (root, *sorted(entry for entry in root.iterdir() if entry.is_dir())):
                found += [os.path.abspath(file) for file in sorted(directory.iterdir()) if file.suffix in READABLE]  # noqa: PTH100
    return tuple(found[:MAX_CONFIG_FILES])
