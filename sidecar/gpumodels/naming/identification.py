"""Which model it is: everything that is known about one model's name, put together, and remembered while it lives."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Final, NamedTuple

from gpumodels.models.assembling import FoundModel
from gpumodels.models.comfy_loras import UNKNOWN_FILE
from gpumodels.naming.agreement import Agreement
from gpumodels.naming.choose_name import (
    Evidence,
    MatchedFiles,
    Naming,
    choose_name,
    file_of_most,
    knows_most,
)
from gpumodels.naming.file_matching import FileMatching, was_read
from gpumodels.naming.file_metadata import WITHOUT_SAFETENSORS, FileMetadata
from gpumodels.naming.model_samples import ModelSamples, SampleReader
from gpumodels.naming.pipeline_slots import PipelineSlot, PipelineSlots
from gpumodels.naming.recency import read_at_that_time
from gpumodels.naming.stated_names import StatedNames, stated_names
from gpumodels.naming.verification import Checked, Verification
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.provenance.checkpoint_values import CheckpointValues
from gpumodels.provenance.files_read import Stamp
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.failures import Failures
from gpumodels.support.resident import resident
from gpumodels.support.weak_table import WeakTable
from gpumodels_shared.name_sources import FROM_FILES, PATCHED_CONFIDENCE, RECENCY_CONFIDENCE, NameSource
from gpumodels_shared.schema import Fingerprint

MOST_SHRUNK: Final = 20
"""A model in memory is up to so many times as large as its file: two bits a weight become 32."""
VERIFIED: Final = FROM_FILES - {NameSource.NAMES_AND_SHAPES}
"""Sources that claim the file's values."""


@resident
@dataclass(frozen=True, slots=True)
class Identified:
    """One model's name and all that goes with it into a snapshot."""

    naming: Naming
    architecture: str | None
    metadata: Mapping[str, str]
    file_stamps: tuple[tuple[int, int], ...]
    slot: str | None
    fingerprint: Fingerprint | None
    of_samples: tuple[int, int] | None
    """How many of its samples agree with its file, of how many; None where that says nothing new."""
    of_tensors: tuple[int, int] | None
    """The same of all its tensors."""


@resident
class Need(IntEnum):
    """How much it is needed to find out about a model, again."""

    LOOK_AGAIN = 0
    """Nothing is new; its values may have been changed in place all the same."""
    CHANGED = 1
    """It, or what it may be from, isn't what it was."""
    SOUGHT = 2
    """A file was read since, which may be the one that it is from."""
    UNKNOWN = 3
    """Somebody waits for its name."""


@resident
class _Known(NamedTuple):
    """What was found out about a model, and from what."""

    identified: Identified
    found: FoundModel
    version: tuple[int, ...]
    place: PipelineSlot | None


@resident
@dataclass(slots=True)
class _Memory:
    """What stays known of a model while it lives."""

    naming: Naming | None = None
    """The last that named a file: values are replaced (patched, offloaded, trained) far more often than models are."""
    values: ModelSamples | None = None
    recognised: MatchedFiles | None = None
    compared: tuple[FoundModel, tuple[str, ...], tuple[int, ...]] | None = None
    """What `recognised` was found from; the same again gives the same."""
    checked: Checked | None = None
    stamps: dict[str, Stamp] = field(default_factory=dict)
    """Of the files that it came from, as they were then."""
    places: tuple[str, ...] = ()
    """What its config and its pipeline say that it was loaded from."""
    hint: tuple[str, ...] = ()
    """Files that were read when it came."""
    confirmed: set[str] = field(default_factory=set)
    """Those of these where files were read."""
    known: dict[str | None, _Known] = field(default_factory=dict)
    """What came out of all this: of itself, and of the adapters in it, by name."""
    pending: dict[str | None, tuple[FoundModel, _Known | None, Identified]] = field(default_factory=dict)
    """What is said until then, and what that was made from."""


@resident
class Identification:
    """Says what is known of models by now, and finds out the rest, which may take its time."""

    def __init__(
        self,
        registry: ModuleRegistry,
        origin_tracker: OriginTracker,
        pipelines: PipelineSlots,
        failures: Failures,
        pause: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._origin_tracker = origin_tracker
        self._pipelines = pipelines
        self._failures = failures
        self._own = SampleReader(registry, origin_tracker, pause)
        checkpoints = CheckpointValues(pause)
        self._recognition = FileMatching(registry, origin_tracker, checkpoints, self._own, pause)
        self._verification = Verification(origin_tracker, checkpoints, self._own, pause)
        self._metadata = FileMetadata(failures)
        self._memories: WeakTable[_Memory] = WeakTable()
        self._places: dict[int, PipelineSlot] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the viewer should say about this process."""
        return () if self._metadata.available else (WITHOUT_SAFETENSORS,)

    def look_at_pipelines(self) -> None:
        """Once before the models of a scan: which of them stand in pipelines."""
        self._places = self._pipelines.places()

    def latest(self, found: FoundModel, core: weakref.ref[Any]) -> Identified:
        """What is known by now. Nothing is compared, no file read.

        Until the first name is found it is what the model says of itself; so it is while a file waits to be compared that one
        without a file may be from.

        Raises:
            ReferenceError: it was deleted meanwhile.
        """
        memory = self._memory(core)
        known = memory.known.get(found.adapter)
        is_outdated = known is None or _is_outdated(known, found)
        if known is not None and not is_outdated and (_names_a_file(known) or not self._is_sought(known, found)):
            return known.identified
        pending = memory.pending.get(found.adapter)
        if pending is None or pending[0] is not found or pending[1] is not known:
            if known is None or is_outdated:
                said = self._said_by_itself(found, core, memory)
            else:
                said = replace(known.identified, naming=_as_pending(known.identified.naming))
            pending = memory.pending[found.adapter] = found, known, said
        return pending[2]

    def need(self, found: FoundModel, core: weakref.ref[Any]) -> Need:
        """How much it is needed that `find_out` is asked.

        Raises:
            ReferenceError: it was deleted meanwhile.
        """
        known = self._memory(core).known.get(found.adapter)
        if known is None or _is_outdated(known, found):
            return Need.UNKNOWN
        if not (known.found is found and _names_a_file(known)) and self._is_sought(known, found):
            return Need.SOUGHT
        is_same = known.found is found and known.version == self.version() and known.place == self._place(found)
        return Need.LOOK_AGAIN if is_same else Need.CHANGED

    def find_out(self, found: FoundModel, core: weakref.ref[Any]) -> None:
        """Find out what can be known now; `latest` says it from then on. No module is held while it is compared with files.

        Raises:
            ReferenceError: it was deleted meanwhile.
        """
        memory = self._memory(core)
        version, place = self.version(), self._place(found)
        before = memory.known.get(found.adapter)
        try:
            identified = (
                self._identify_adapter(found) if found.adapter is not None else self._identify(found, core, memory, place)
            )
        except ReferenceError:
            raise
        except Exception:
            # What can't be found out now can't be the next time: its class is what it is called.
            identified = replace(self._said_by_itself(found, core, memory), naming=_as_class(found))
            memory.known[found.adapter] = _Known(identified, found, version, place)
            raise
        if before is not None and before.identified == identified:
            identified = before.identified  # the same object: nothing to describe anew
        memory.known[found.adapter] = _Known(identified, found, version, place)
        memory.pending.pop(found.adapter, None)

    def _memory(self, core: weakref.ref[Any]) -> _Memory:
        module = core()
        if module is None:
            raise ReferenceError("the model was deleted while it was described")
        memory = self._memories.get(module)
        if memory is None:
            memory = _Memory()
            self._memories.put(module, memory)
        return memory

    def _place(self, found: FoundModel) -> PipelineSlot | None:
        return self._places.get(found.core) or self._places.get(found.root)

    def _said_by_itself(self, found: FoundModel, core: weakref.ref[Any], memory: _Memory) -> Identified:
        """The same, whatever goes wrong: what a model holds is shown in any case."""
        try:
            return self._without_files(found, core, memory)
        except ReferenceError:
            raise
        except Exception as error:  # noqa: BLE001  # its words are the host's
            self._failures.note("reading what a model says of itself", error)
            return _identified(_as_pending(_as_class(found)))

    def _without_files(self, found: FoundModel, core: weakref.ref[Any], memory: _Memory) -> Identified:
        """What can be said at once."""
        if found.adapter is not None:
            return _identified(_as_pending(choose_name(_adapters_words(found))))
        stated, place = self._stated(core), self._place(found)
        evidence = self._stated_evidence(found, stated, place, memory)
        return Identified(
            naming=_as_pending(choose_name(evidence)),
            architecture=stated.architecture,
            metadata={},
            file_stamps=(),
            slot=place.slot if place is not None else None,
            fingerprint=None,
            of_samples=None,
            of_tensors=None,
        )

    def _identify(self, found: FoundModel, core: weakref.ref[Any], memory: _Memory, place: PipelineSlot | None) -> Identified:
        stated = self._stated(core)
        evidence = replace(
            self._stated_evidence(found, stated, place, memory),
            bytes_by_origin=found.bytes_by_origin,
            total_bytes=found.held_bytes,
            metadata={path: self._metadata.of(path, memory.stamps.get(path)) for path, _ in found.bytes_by_origin if path},
        )
        if not knows_most(found.bytes_by_origin, found.held_bytes):
            evidence = self._with_recognised(evidence, found, memory)
        naming = self._held_on_to(choose_name(evidence), found, memory)
        naming, evidence, agreement = self._verified(naming, evidence, found, memory)
        naming = self._hinted(naming, evidence, found, memory)
        self._account_for(naming, memory)
        recognised = evidence.recognised
        match = recognised.match if recognised is not None and naming.source == NameSource.VALUES else None
        of_samples = (match.matched, match.compared) if match is not None else None
        if agreement is not None and not agreement.is_whole:
            of_samples = agreement.matched, agreement.compared
        of_all = memory.checked.of_all if agreement is not None and memory.checked is not None else None
        return Identified(
            naming=naming,
            architecture=stated.architecture,
            metadata=self._merged_metadata(naming.files, memory.stamps),
            file_stamps=_published(naming.files, memory.stamps),
            slot=place.slot if place is not None else None,
            fingerprint=recognised.fingerprint if recognised is not None and naming.source != NameSource.VALUES else None,
            of_samples=of_samples,
            of_tensors=(of_all.matched, of_all.compared) if of_all is not None else None,
        )

    def _identify_adapter(self, found: FoundModel) -> Identified:
        """An adapter's name, its file's or the one that it was loaded under, with the file's metadata and stamp."""
        metadata = {path: self._metadata.of(path, found.stamps.get(path)) for path, _ in found.bytes_by_origin if path}
        evidence = replace(
            _adapters_words(found), bytes_by_origin=found.bytes_by_origin, total_bytes=found.held_bytes, metadata=metadata
        )
        naming = choose_name(evidence)
        stamps = _published(naming.files, found.stamps)
        return replace(_identified(naming), metadata=self._merged_metadata(naming.files, found.stamps), file_stamps=stamps)

    def _stated(self, core: weakref.ref[Any]) -> StatedNames:
        module = core()
        if module is None:
            raise ReferenceError("the model was deleted while it was described")
        return stated_names(module)

    def _stated_evidence(self, found: FoundModel, stated: StatedNames, place: PipelineSlot | None, memory: _Memory) -> Evidence:
        """What the model and its pipeline say, as far as it may be true; no file is read for it."""
        memory.stamps.update(found.stamps)
        pipeline_name = place.pipeline if place is not None else None
        config_name = stated.config_name if self._may_be_from(stated.config_name, found, memory) else None
        if stated.possible_name is not None and was_read(stated.possible_name, self._origin_tracker.files_read.paths()):
            config_name = config_name or stated.possible_name
        stated_places = (stated.config_name, stated.possible_name, pipeline_name)
        memory.places = tuple(name for name in stated_places if name is not None)
        return Evidence(
            class_name=found.class_name,
            config_name=config_name,
            pipeline_name=pipeline_name if self._may_be_from(pipeline_name, found, memory) else None,
            architecture=stated.architecture,
            attributes=stated.attributes,
        )

    def _may_be_from(self, place: str | None, found: FoundModel, memory: _Memory) -> bool:
        """Whether weights may have been loaded from there: a model built from a config alone bears the same name.

        Where its building was seen, reading its weights would have been seen, too.
        """
        if place is None:
            return False
        read = self._read_for(found)
        if read is not None:
            return was_read(place, read)  # something else may have been loaded since
        if place not in memory.confirmed and (
            not self._registry.born_ns(found.core) or was_read(place, self._origin_tracker.files_read.paths())
        ):
            memory.confirmed.add(place)
        return place in memory.confirmed

    def _with_recognised(self, evidence: Evidence, found: FoundModel, memory: _Memory, is_claimed: bool = False) -> Evidence:
        """With what comparing the model's values with files gives.

        Args:
            evidence: what is known without that.
            found: the model.
            memory: what is known of it.
            is_claimed: a name depends on what its values are right now.
        """
        recognised = self._recognised(found, memory, is_claimed)
        for file in self._origin_tracker.files_read.of(recognised.paths):
            if file.stamp is not None:
                memory.stamps[file.path] = file.stamp
        metadata = {path: self._metadata.of(path, memory.stamps.get(path)) for path in recognised.paths}
        return replace(evidence, recognised=recognised, metadata={**evidence.metadata, **metadata})

    def _recognised(self, found: FoundModel, memory: _Memory, is_claimed: bool) -> MatchedFiles:
        known = memory.recognised
        values = self._values(found, memory)
        before = memory.compared[0] if memory.compared is not None and not values.samples else found
        # By names and shapes alone, a model that is built alike is the same.
        wanted = (before if found.is_built_like(before) else found, memory.places, self.version())
        # Where nothing is claimed, nothing needs to be right about values that change at every look, as in training.
        is_same = known is not None and (
            known.fingerprint is None or known.fingerprint.samples == values.samples or not (known.paths or is_claimed)
        )
        if known is None or memory.compared != wanted or not is_same:
            known = memory.recognised = self._recognition.recognise(found, values, memory.places, known)
            memory.compared = wanted
        return known

    def _verified(
        self, naming: Naming, evidence: Evidence, found: FoundModel, memory: _Memory
    ) -> tuple[Naming, Evidence, Agreement | None]:
        """The name, if the model's values don't deny it; else another; and how the values agree with its files."""
        if naming.source not in VERIFIED or not naming.files:
            return naming, evidence, None
        files = {path: memory.stamps.get(path) for path in naming.files}
        memory.checked = self._verification.check(self._values(found, memory), files, memory.checked)
        if memory.checked is None or memory.checked.of_samples.is_whole:
            return naming, evidence, None
        agreement = memory.checked.of_samples
        compared = self._with_recognised(evidence, found, memory, is_claimed=agreement.is_refuted)
        recognised = compared.recognised
        is_another = (
            recognised is not None
            and recognised.match is not None
            and recognised.match.matched > agreement.matched
            and not set(naming.files) <= set(recognised.paths)
        )
        if is_another or agreement.is_refuted:
            nowhere = {("", "elsewhere"): evidence.total_bytes}
            denied = replace(compared, bytes_by_origin=nowhere, config_name=None, pipeline_name=None)
            naming = choose_name(denied)
            memory.naming = naming if naming.source in FROM_FILES else None
            return naming, denied, None
        if naming.source == NameSource.VALUES and not agreement.is_patched:
            naming = replace(naming, confidence=PATCHED_CONFIDENCE)
        return naming, evidence, agreement

    def _hinted(self, naming: Naming, evidence: Evidence, found: FoundModel, memory: _Memory) -> Naming:
        """With the file that was read when the model came, where nothing else is known, not even its values."""
        is_unknown = naming.source == NameSource.CLASS and not naming.files and not naming.candidates
        if not is_unknown or (evidence.recognised is not None and evidence.recognised.fingerprint is not None):
            return naming
        if self._read_for(found) is not None:
            return naming  # something was loaded into it since, by names and shapes from none of these files
        checkpoints = self._origin_tracker.files_read.groups().values()
        memory.hint = memory.hint or read_at_that_time(checkpoints, self._registry.born_ns(found.core), found.held_bytes)
        if not memory.hint:
            return naming
        return replace(naming, source=NameSource.RECENCY, confidence=RECENCY_CONFIDENCE, candidates=memory.hint)

    def _read_for(self, found: FoundModel) -> tuple[str, ...] | None:
        """The files that were read just before values were loaded into it that weren't seen; None where that never was."""
        refs = (self._registry.ref(found.core), self._registry.ref(found.root))
        return self._origin_tracker.read_for(*(ref() for ref in refs if ref is not None))

    def _account_for(self, naming: Naming, memory: _Memory) -> None:
        """What this model was loaded from isn't what the next one is."""
        if naming.files:
            self._origin_tracker.files_read.account_for(set(naming.files).__contains__)
        elif naming.source in (NameSource.CONFIG, NameSource.PIPELINE):
            self._origin_tracker.files_read.account_for(lambda path: any(was_read(place, [path]) for place in memory.places))

    def _values(self, found: FoundModel, memory: _Memory) -> ModelSamples:
        version = (self._origin_tracker.version, self._origin_tracker.samples_version)
        memory.values = self._own.values(found, version, memory.values)
        return memory.values

    def version(self) -> tuple[int, int, int]:
        """Equal versions: comparing again would give the same, if the model is the same."""
        return self._origin_tracker.files_read.version, self._origin_tracker.version, self._origin_tracker.samples_version

    def _is_sought(self, known: _Known, found: FoundModel) -> bool:
        """Whether enough was read since that the model may be from it; hosts read data from small files, too, without an end."""
        files, version = self._origin_tracker.files_read, known.version[0]
        return files.version != version and files.bytes_since(version) * MOST_SHRUNK >= found.held_bytes

    def _held_on_to(self, naming: Naming, found: FoundModel, memory: _Memory) -> Naming:
        """The name from a file stays when its evidence thins out, unless something else was loaded over it."""
        if naming.source in FROM_FILES:
            memory.naming = naming
            return naming
        former = memory.naming
        if former is None or naming.candidates:
            return naming
        others = sum(size for (path, _), size in found.bytes_by_origin.items() if path not in former.files)
        if others * 2 > found.held_bytes:
            memory.naming = None
            return naming
        return former

    def _merged_metadata(self, files: Sequence[str], stamps: Mapping[str, Stamp]) -> Mapping[str, str]:
        merged: dict[str, str] = {}
        for path in reversed(files):  # the file with most of the model speaks last
            merged.update(self._metadata.of(path, stamps.get(path)))
        return merged


def _is_outdated(known: _Known, found: FoundModel) -> bool:
    """Whether another file was loaded into the model since."""
    file = file_of_most(found.bytes_by_origin, found.held_bytes)
    return file is not None and file != file_of_most(known.found.bytes_by_origin, known.found.held_bytes)


def _names_a_file(known: _Known) -> bool:
    return known.identified.naming.source in FROM_FILES


def _as_pending(naming: Naming) -> Naming:
    """What a model says of itself, while more is to be found out."""
    return replace(naming, source=NameSource.PENDING, confidence=0.0, files=(), candidates=())


def _as_class(found: FoundModel) -> Naming:
    return Naming("LoRA" if found.adapter is not None else found.class_name, NameSource.CLASS, 0.0)


def _adapters_words(found: FoundModel) -> Evidence:
    """What an adapter says of itself: the name that it was loaded under."""
    return Evidence(
        class_name="LoRA", attributes=(found.adapter,) if found.adapter not in (None, UNKNOWN_FILE, "default") else ()
    )


def _identified(naming: Naming) -> Identified:
    return Identified(naming, None, {}, (), None, None, None, None)


def _published(files: Sequence[str], stamps: Mapping[str, Stamp]) -> tuple[tuple[int, int], ...]:
    """Sizes and times of change of all these files as they were read; nothing where one isn't known."""
    known = [stamps.get(path) for path in files]
    found = tuple((stamp.size_bytes, stamp.modified_ns) for stamp in known if stamp is not None)
    return found if len(found) == len(known) else ()
