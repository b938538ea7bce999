"""Answers what the stages of `identification` ask about one model: from its own values, its files, and what was remembered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from gpumodels.models.assembling import FoundModel
from gpumodels.models.comfy_loras import UNKNOWN_FILE
from gpumodels.models.shared_weights import own_weights
from gpumodels.naming.evidence import Evidence, FileAgreement, MatchedFiles, Naming
from gpumodels.naming.file_matching import FileMatching
from gpumodels.naming.file_metadata import FileMetadata
from gpumodels.naming.library_loads import TENSORS_COMPARED, were_written
from gpumodels.naming.model_samples import ModelSamples, SampleReader
from gpumodels.naming.pipeline_slots import PipelineSlot
from gpumodels.naming.recency import is_as_large, read_when_built
from gpumodels.naming.stated_files import PICKLED, files_at, was_read
from gpumodels.naming.stated_names import StatedNames, stated_names
from gpumodels.naming.stated_precision import stated_precision
from gpumodels.naming.verification import Checked, Verification
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.provenance.checkpoint_values import READABLE, CheckpointValues
from gpumodels.provenance.files_before import FilesBefore
from gpumodels.provenance.files_read import FilesRead, ReadFile, Stamp, stamp_of
from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.provenance.stored_files import StoredFiles
from gpumodels.support.failures import Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.weak_table import KeyedRef
from gpumodels.tensors.forward_holders import HELD_BY_FORWARD
from gpumodels_shared.schema import TensorSample
from gpumodels_shared.shards import checkpoint_of

MAX_SAVES: Final = 8
"""How often values may have been written to yet another file and read back."""
MAX_REMEMBERED: Final = 64
"""Of so many files that this process wrote and read again, it is remembered what was in them."""
UNCHOSEN_LABEL: Final = r"default(_\d+)?$"
"""What PEFT and diffusers call an adapter for which nobody chose a name."""

Version = tuple[int, int, int, int]
"""Of what was read, loaded, sampled and named in this process: equal versions give equal answers about an unchanged model."""


@never_pickled
class Sources:
    """What answers are found with; remembers nothing about models."""

    def __init__(
        self, registry: ModuleRegistry, origin_tracker: OriginTracker, failures: Failures, pause: Callable[[], None]
    ) -> None:
        checkpoints = CheckpointValues(pause)
        self.registry = registry
        self.origin_tracker = origin_tracker
        self.samples = SampleReader(registry, origin_tracker, pause)
        self.matching = FileMatching(registry, origin_tracker, checkpoints, self.samples, pause)
        self.verification = Verification(origin_tracker, checkpoints, self.samples, pause)
        self.metadata = FileMetadata(failures)
        self.stored_files = StoredFiles(pause)
        self.files_before = FilesBefore(self._mapped_paths, pause)
        self.pause = pause
        self.rivals_of: Callable[[FoundModel], Iterable[int]] = lambda _: ()
        """When other models of the same structure were built whose files aren't known."""

    @property
    def files_read(self) -> FilesRead:
        """The files that this process read."""
        return self.origin_tracker.files_read

    def _mapped_paths(self) -> list[str]:
        return [file.path for file in self.files_read.of(self.files_read.paths()) if not file.read_ns]

    def version(self) -> Version:
        """Another one: comparing again may give another answer."""
        tracker = self.origin_tracker
        return self.files_read.version, tracker.version, tracker.samples_version, tracker.files_named.version


@never_pickled
@dataclass(frozen=True, slots=True)
class _MatchedFrom:
    """What `MatchedFiles` were found from: the same again gives the same."""

    found: FoundModel
    stated_origins: tuple[str, ...]
    version: Version
    writes: tuple[int | None, ...] = ()
    """How often some of its tensors had been written to, where its values are out of reach."""
    rivals: tuple[int, ...] = ()
    """When the other models were built that may be from the same files, where its values are out of reach."""


@never_pickled
class _PartOf(NamedTuple):
    """Whether a model has little of some files, and of which; the same while it has the same tensors."""

    found: FoundModel
    files: Mapping[str, Stamp | None]
    has_little: bool


@never_pickled
@dataclass(slots=True)
class Findings:
    """What was found out about one model so far; kept while it lives."""

    samples: ModelSamples | None = None
    matched: MatchedFiles | None = None
    matched_from: _MatchedFrom | None = None
    checked: Checked | None = None
    saved: dict[tuple[int, ...], bool] = field(default_factory=dict)
    """Whether files that this process wrote have the values of others, by the numbers of all of them (`ReadFile.number`)."""
    part: _PartOf | None = None
    rest: tuple[tuple[TensorSample, ...], Version, MatchedFiles] | None = None
    """Samples that aren't from the files of its name, and which files they are from."""
    stamps: dict[str, Stamp] = field(default_factory=dict)
    """Of the files that it came from, as they were when they were read."""
    stated_origins: tuple[str, ...] = ()
    """Where its config and its pipeline say that it was loaded from."""
    confirmed_origins: set[str] = field(default_factory=set)
    """Those of them where files were read, or may have been."""
    read_at_creation: tuple[str, ...] = ()
    """The files that were read when it was created."""
    weights_at: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The files of weights where it says that it was loaded from."""
    file_naming: Naming | None = None
    """The last name that a file gave it."""
    precision: tuple[FoundModel, str | None] | None = None
    """How its weights are stored, and the model as it was then."""


@never_pickled
@dataclass(frozen=True, slots=True)
class ModelInquiry:
    """An `evidence.Inquiry` about one model."""

    sources: Sources
    found: FoundModel
    findings: Findings

    # What evidence begins with.

    def stated_evidence(self, module: Any, slot: PipelineSlot | None) -> Evidence:
        """What the model and its pipeline say, as far as it may be true. No file is read for it.

        Args:
            module: its core.
            slot: where it is in a pipeline.
        """
        stated = stated_names(module)
        self.findings.stamps.update(self.found.stamps)
        pipeline_name = slot.pipeline if slot is not None else None
        origins = (stated.config_name, stated.possible_name, pipeline_name)
        self.findings.stated_origins = tuple(origin for origin in origins if origin is not None)
        may_be_from = self._may_be_from
        if not self._would_be_seen():
            # What a copy or an unpickled model was made of isn't known, either.
            may_be_from = self._seems_to_be_from if stated.is_loaded else _is_unknown
        config_name = self._config_name(stated, may_be_from)
        pipeline_name = pipeline_name if may_be_from(pipeline_name) else None
        return Evidence(
            class_name=self.found.class_name,
            config_name=config_name,
            pipeline_name=pipeline_name,
            is_load_seen=self._would_be_seen(),
            stated_files=() if config_name or pipeline_name or self._would_be_seen() else self._stated_files(stated, slot),
            architecture=stated.architecture,
            attributes=stated.attributes,
            inquiry=self,
            file_naming=self.findings.file_naming,
        )

    def evidence_of_adapter(self) -> Evidence:
        """An adapter states nothing of itself; a program may hold it under a name of its choice."""
        self.findings.stamps.update(self.found.stamps)
        held_as = self.found.adapter
        is_chosen = held_as is not None and not (
            held_as == UNKNOWN_FILE or held_as.endswith(HELD_BY_FORWARD) or re.match(UNCHOSEN_LABEL, held_as)
        )
        return Evidence(
            class_name="LoRA",
            label=held_as if is_chosen else None,
            inquiry=self,
            file_naming=self.findings.file_naming,
        )

    def precision(self, module: Any) -> str | None:
        """How its weights are stored, as people call it; read once while nothing about the model changes.

        Args:
            module: its core.
        """
        known = self.findings.precision
        if known is None or known[0] is not self.found:
            stated = stated_precision(self.found, module, self.sources.registry, self.sources.pause)
            known = self.findings.precision = self.found, stated
        return known[1]

    def _config_name(self, stated: StatedNames, may_be_from: Callable[[str | None], bool]) -> str | None:
        name = stated.config_name if may_be_from(stated.config_name) else None
        if stated.possible_name is not None and was_read(stated.possible_name, self.sources.files_read.paths()):
            return name or stated.possible_name
        return name

    def _may_be_from(self, origin: str | None) -> bool:
        """Whether weights may have been loaded from there: a model built from a config alone bears the same name.

        Where the model's creation was seen, reading its weights would have been seen, too.
        """
        if origin is None:
            return False
        read = self._read_for_unseen_load()
        if read is not None:
            return was_read(origin, read)  # something else may have been loaded since
        confirmed = self.findings.confirmed_origins
        if origin not in confirmed and self._was_read_for_it(origin):
            confirmed.add(origin)
        return origin in confirmed

    def _would_be_seen(self) -> bool:
        """Whether files that were read for it would have been seen being read: it was built, or filled, while it was observed."""
        return bool(self.sources.registry.built_ns(self.found.core)) or self._read_for_unseen_load() is not None

    def _seems_to_be_from(self, origin: str | None) -> bool:
        """Whether it still holds what its library loaded into it, which that says was from there."""
        if origin is None:
            return False
        writes = self.sources.samples.writes_to_first(self.found, TENSORS_COMPARED)
        is_unpickled = self._weights_at(origin) and not self._weights_at(origin)[0].endswith(READABLE)
        return not were_written(writes, loads=1 if is_unpickled else 0)

    def _stated_files(self, stated: StatedNames, slot: PipelineSlot | None) -> tuple[str, ...]:
        """The files where its config says that it was loaded from, else its pipeline."""
        if stated.config_name is not None:
            return self._weights_at(stated.config_name)
        return self._weights_at(f"{slot.pipeline}/{slot.slot}") if slot is not None and slot.pipeline is not None else ()

    def _weights_at(self, origin: str) -> tuple[str, ...]:
        """The files of weights there; those of safetensors, if there are any. Looked up once."""
        known = self.findings.weights_at.get(origin)
        if known is None:
            known = self.findings.weights_at[origin] = files_at(origin) or files_at(origin, PICKLED)
        return known

    def _was_read_for_it(self, origin: str) -> bool:
        """Whether files were read from there that it may have been filled from.

        They were read since it was built, or before, if they aren't known to be another model's, and none that is as large was
        read since.
        """
        built_ns = self.sources.registry.built_ns(self.found.core)
        files_read = self.sources.files_read
        files = files_read.of(files_read.paths())
        if was_read(origin, [file.path for file in files if not file.read_ns or file.read_ns >= built_ns]):
            return True
        before = [file.path for file in files if not files_read.is_explained(file.path)]
        return was_read(origin, before) and not self._was_as_large_read(files, built_ns)

    def _was_as_large_read(self, files: Sequence[ReadFile], since_ns: int) -> bool:
        """Whether a checkpoint as large as the model was read since then."""
        sizes: dict[str, int] = {}
        for file in files:
            if file.read_ns >= since_ns and file.stamp is not None and not self.sources.files_read.is_explained(file.path):
                checkpoint = checkpoint_of(file.path)
                sizes[checkpoint] = sizes.get(checkpoint, 0) + file.stamp.size_bytes
        return any(is_as_large(size, self.found.held_bytes) for size in sizes.values())

    def bytes_by_origin(self) -> Mapping[tuple[str, str], int]:
        """`OwnWeights.bytes_by_origin`, where each file has one path, and that is one by which the host read it."""
        files_read, stamps, by_origin = self.sources.files_read, self.found.stamps, own_weights(self.found).bytes_by_origin
        paths: dict[Stamp, str] = {}
        for file in files_read.of([path for path, _ in by_origin if path]):
            if file.read_ns and file.path in stamps:
                paths.setdefault(stamps[file.path], file.path)
        found: dict[tuple[str, str], int] = {}
        for (path, source), size in by_origin.items():
            stamp = stamps.get(path)
            if stamp is not None:
                path = paths.get(stamp) or files_read.path_of(stamp) or path
                self.findings.stamps[path] = stamp
            found[path, source] = found.get((path, source), 0) + size
        return found

    # What stages ask.

    def matched_files(self, is_name_claimed: bool) -> MatchedFiles:
        """See `evidence.Inquiry`."""
        known, samples = self.findings.matched, self._samples()
        if self.found.adapter is not None and not samples.samples:
            return MatchedFiles(None)  # its names and shapes are those of any adapter of this model
        before = self.findings.matched_from
        # By names and shapes alone, a model that is built alike is the same.
        is_alike = before is not None and not samples.samples and self.found.has_same_structure_as(before.found)
        found = before.found if before is not None and is_alike else self.found
        writes = self.sources.samples.writes(samples) if not samples.in_reach else ()
        rivals = tuple(self.sources.rivals_of(self.found)) if not samples.in_reach else ()
        matched_from = _MatchedFrom(found, self.findings.stated_origins, self.sources.version(), writes, rivals)
        # Where no name depends on it, nothing needs to be right about values that change at every scan, as in training.
        is_same = known is not None and (
            known.fingerprint is None or known.fingerprint.samples == samples.samples or not (known.paths or is_name_claimed)
        )
        if known is None or not is_same or before != matched_from:
            among = self._read_for_unseen_load()
            named = self._named_at_creation()
            stated = self.findings.stated_origins
            before_us = None if self._would_be_seen() else self.sources.files_before
            known = self.sources.matching.match(self.found, samples, stated, among, known, named, rivals, before_us)
            self.findings.matched, self.findings.matched_from = known, matched_from
        for file in self.sources.files_read.of(known.paths):
            if file.stamp is not None:
                self.findings.stamps[file.path] = file.stamp
        return known

    def metadata_of(self, paths: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """See `evidence.Inquiry`."""
        return {path: self.sources.metadata.of(path, self.findings.stamps.get(path)) for path in paths}

    def symlinks_to(self, path: str) -> tuple[str, ...]:
        """See `evidence.Inquiry`."""
        return self.sources.stored_files.names_of(path)

    def agreement_with(self, paths: Sequence[str]) -> FileAgreement | None:
        """See `evidence.Inquiry`."""
        files = {path: self.findings.stamps.get(path) for path in paths}
        checked = self.sources.verification.check(self._samples(), files, self.findings.checked)
        self.findings.checked = checked
        return checked.agreement if checked is not None else None

    def files_of(self, samples: tuple[TensorSample, ...]) -> MatchedFiles:
        """See `evidence.Inquiry`."""
        known, version = self.findings.rest, self.sources.version()
        if known is None or known[:2] != (samples, version):
            of_these = replace(self._samples(), samples=samples)
            known = samples, version, self.sources.matching.match(self.found, of_these, self.findings.stated_origins, None)
            self.findings.rest = known
        return known[2]

    def were_saved_from(self, paths: Sequence[str], files: Sequence[str]) -> bool:
        """See `evidence.Inquiry`. Where it isn't known where the values came from, they must be those that the model had."""
        found = [self.sources.origin_tracker.own_files.get(path) for path in paths]
        own = [file for file in found if file is not None]
        if not own or len(own) < len(found):
            return False
        if all(file.sources for file in own):
            is_from_these = any(sources.issubset(files) for sources in self._sources_of(paths))
            return is_from_these and self._are_values_of(paths, files)
        samples = self.findings.samples.samples if self.findings.samples is not None else ()
        hashes = frozenset[int]().union(*(file.hashes for file in own))
        saved = sum(hash(RawSample(sample.dtype, sample.shape, sample.data)) in hashes for sample in samples)
        return 2 * saved >= len(samples) > 0 and self._are_values_of(paths, files)

    def saved_from(self, paths: Sequence[str]) -> tuple[str, ...]:
        """See `evidence.Inquiry`. Another model into which such a file is loaded is that file's."""
        files: tuple[str, ...] = ()
        for sources in self._sources_of(paths):
            latest, before = files or tuple(paths), tuple(sorted(sources))
            if not all(map(self._is_returned, latest)) or not self._are_values_of(latest, before):
                break
            files = before
        return files

    def _is_returned(self, path: str) -> bool:
        """Whether the model's own values were loaded into it again from this file."""
        is_returned = self.sources.origin_tracker.own_files.is_returned
        return any((module := ref()) is not None and is_returned(module, path) for ref in self._refs())

    def _sources_of(self, paths: Sequence[str]) -> Iterator[frozenset[str]]:
        """The files that the values in these came from; then, if this process wrote those, the files that theirs came from."""
        met = frozenset(paths)
        latest = met
        for _ in range(MAX_SAVES):
            found = [self.sources.origin_tracker.own_files.get(path) for path in latest]
            if not found or not all(file is not None and file.sources for file in found):
                return
            latest = frozenset[str]().union(*(file.sources for file in found if file is not None))
            if not latest.isdisjoint(met):
                return
            met |= latest
            yield latest

    def has_little_of(self, paths: Sequence[str]) -> bool:
        """See `evidence.Inquiry`."""
        files, known = {path: self.findings.stamps.get(path) for path in paths}, self.findings.part
        if known is None or known.files != files or not self.found.has_same_structure_as(known.found):
            known = _PartOf(self.found, files, self.sources.verification.has_little_of(self.found, files))
            self.findings.part = known
        return known.has_little

    def files_copied_since(self, paths: Sequence[str]) -> tuple[str, ...]:
        """See `evidence.Inquiry`."""
        samples = self._samples()
        if self.found.adapter is not None or samples.in_reach or not self.sources.samples.were_overwritten(samples):
            return ()
        return tuple(path for path in self.sources.matching.unclaimed(self.found, samples) if path not in paths)

    def tensors_in_all(self) -> int:
        """See `evidence.Inquiry`."""
        return self._samples().tensors

    def was_loaded_unseen(self) -> bool:
        """See `evidence.Inquiry`."""
        return self._read_for_unseen_load() is not None

    def files_read_at_creation(self) -> tuple[str, ...]:
        """See `evidence.Inquiry`."""
        if not self.findings.read_at_creation and self.found.adapter is None:
            files_read = self.sources.files_read
            checkpoints = [
                files for files in files_read.groups().values() if not all(files_read.is_explained(file.path) for file in files)
            ]
            built_ns = self.sources.registry.built_ns(self.found.core)
            self.findings.read_at_creation = read_when_built(checkpoints, built_ns, self.found.held_bytes)
        return self.findings.read_at_creation

    def _are_values_of(self, paths: Sequence[str], files: Sequence[str]) -> bool:
        """Whether what this process wrote to these paths were the values of `files`, perhaps with something merged into some.

        Found out once: the model may be trained after it was loaded. Where the files can't be compared, it is what was loaded.
        """
        of_files = [self.sources.files_read.of(several) for several in (paths, files)]
        numbers = tuple(file.number for several in of_files for file in several)
        known = self.findings.saved.pop(numbers, None)
        if known is None:
            for file in of_files[1]:
                if file.stamp is not None:
                    self.findings.stamps.setdefault(file.path, file.stamp)
            found = self.sources.verification.compare_files(*of_files)
            if found is None and (agreement := self.agreement_with(files)) is not None:
                found = agreement.of_samples
            known = found is not None and 2 * found.elements.matched >= found.elements.kept + found.elements.different
        self.findings.saved[numbers] = known
        while len(self.findings.saved) > MAX_REMEMBERED:
            del self.findings.saved[next(iter(self.findings.saved))]
        return known

    def file_named_at_creation(self) -> str | None:
        """See `evidence.Inquiry`."""
        named = self._named_at_creation() if self.found.adapter is None else ()
        read = self._read_for_unseen_load()
        if len(named) != 1 or (read is not None and named[0] not in read):
            return None
        (file,) = self.sources.files_read.of(named)
        stamp = file.stamp or stamp_of(file.path)
        can_be_compared = file.values is not None or file.path.endswith(READABLE)
        if stamp is None or can_be_compared or not is_as_large(stamp.size_bytes, self.found.held_bytes):
            return None
        self.findings.stamps.setdefault(file.path, stamp)
        return file.path

    def _named_at_creation(self) -> tuple[str, ...]:
        return self.sources.origin_tracker.files_named.named_when_built(self.sources.registry.built_ns(self.found.core))

    def _samples(self) -> ModelSamples:
        tracker = self.sources.origin_tracker
        version = (tracker.version, tracker.samples_version)
        self.findings.samples = self.sources.samples.samples_of(self.found, version, self.findings.samples)
        return self.findings.samples

    def _read_for_unseen_load(self) -> tuple[str, ...] | None:
        """The files that were read just before values were loaded into it unseen; None where that never happened."""
        return self.sources.origin_tracker.files_read_before_load(*(ref() for ref in self._refs()))

    def _refs(self) -> list[KeyedRef]:
        """To its core and its root."""
        refs = (self.sources.registry.ref(self.found.core), self.sources.registry.ref(self.found.root))
        return [ref for ref in refs if ref is not None]


def _is_unknown(origin: str | None) -> bool:
    """No: nothing shows that weights were loaded from anywhere."""
    return False
