"""The name of every model as far as it is known, kept while the model lives; and what there is still to find out."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Final, NamedTuple

from gpumodels.models.assembling import FoundModel
from gpumodels.models.grouping import WRAPPERS
from gpumodels.models.shared_weights import own_weights
from gpumodels.naming.agreement import Agreement
from gpumodels.naming.evidence import Naming
from gpumodels.naming.file_metadata import WITHOUT_SAFETENSORS
from gpumodels.naming.identification import CLAIM_VALUES, choose_name, file_of_most, identify
from gpumodels.naming.model_inquiry import Findings, ModelInquiry, Sources, Version
from gpumodels.naming.pipeline_slots import PipelineSlot, PipelineSlots
from gpumodels.naming.stated_files import was_read
from gpumodels.observing.module_registry import ModuleRegistry
from gpumodels.provenance.files_read import Stamp, stamp_of
from gpumodels.provenance.labels import LABELS, Label
from gpumodels.provenance.origin_tracker import OriginTracker
from gpumodels.support.failures import Failures
from gpumodels.support.instances import name_of, state_of
from gpumodels.support.module_tables import entry, tables_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.weak_table import WeakTable
from gpumodels_shared.name_sources import CONFIDENCE, FROM_FILES, NameSource
from gpumodels_shared.schema import Fingerprint

MOST_SHRUNK: Final = 20
"""A model in memory is up to so many times as large as its file: two bits a weight become 32."""


@never_pickled
class Counts(NamedTuple):
    """How many of a model's tensors agree with its file."""

    matched: int
    compared: int


@never_pickled
@dataclass(frozen=True, slots=True)
class Identified:
    """One model's name, and everything about it that goes into a snapshot."""

    naming: Naming
    architecture: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    file_stamps: tuple[tuple[int, int], ...] = ()
    slot: str | None = None
    fingerprint: Fingerprint | None = None
    """Its values, for viewers to compare with files that this process doesn't know."""
    samples: Counts | None = None
    """Of its samples; None where that says nothing new."""
    tensors: Counts | None = None
    """Of all its tensors, where they were counted."""
    precision: str | None = None
    """How its weights are stored, as people call it; None if the dtypes say it."""


@never_pickled
class Need(IntEnum):
    """How urgent it is to find out about a model, again."""

    RECHECK = 0
    """Nothing is new; its values may have been changed in place all the same."""
    CHANGED = 1
    """The model has changed, or what it may be from has."""
    SOUGHT = 2
    """A file was read since that the model may be from."""
    UNKNOWN = 3
    """It has no name yet."""


@never_pickled
class _KnownName(NamedTuple):
    """What was found out about a model, and from what."""

    identified: Identified
    found: FoundModel
    version: Version
    slot: PipelineSlot | None
    label: Label | None


@never_pickled
class _PendingName(NamedTuple):
    """What is said of a model until it is found out about, and what that was made from: the same again is the same object."""

    found: FoundModel
    known: _KnownName | None
    label: Label | None
    identified: Identified


@never_pickled
@dataclass(slots=True)
class _NamesOfModule:
    """The names of a model and, by name, of the adapters in it (None is the model itself)."""

    findings: dict[str | None, Findings] = field(default_factory=dict)
    known: dict[str | None, _KnownName] = field(default_factory=dict)
    pending: dict[str | None, _PendingName] = field(default_factory=dict)


@never_pickled
class ModelNames:
    """Says at once what is known about a model's name, and finds out the rest when it is asked to."""

    def __init__(
        self,
        registry: ModuleRegistry,
        origin_tracker: OriginTracker,
        pipelines: PipelineSlots,
        failures: Failures,
        pause: Callable[[], None],
    ) -> None:
        self._pipelines = pipelines
        self._failures = failures
        self._sources = Sources(registry, origin_tracker, failures, pause)
        self._names: WeakTable[_NamesOfModule] = WeakTable()
        self._sources.rivals_of = self._rivals_of
        self._slots: dict[int, PipelineSlot] = {}
        self._present: Sequence[FoundModel] = ()
        """The models of the last scan."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What viewers should say about this process."""
        return () if self._sources.metadata.available else (WITHOUT_SAFETENSORS,)

    def begin(self, found: Sequence[FoundModel]) -> None:
        """Take the models of a scan, and read which are in which pipeline; before `latest`."""
        self._present = found
        self._slots = self._pipelines.by_id()

    def latest(self, found: FoundModel, core: weakref.ref[Any]) -> Identified:
        """What is known by now. Nothing is compared, no file is read.

        Until its first name is found, that is what the model says of itself. A model without a file is pending again while a file
        that it may be from waits to be compared.

        Raises:
            ReferenceError: the model was deleted meanwhile.
        """
        names = self._names_of(_alive(core))
        known = names.known.get(found.adapter)
        is_outdated = known is None or self._is_labelled_anew(known, found) or _is_outdated(known, found)
        if known is not None and not is_outdated and (_names_a_file(known) or not self._is_sought(known, found)):
            return known.identified
        label = self._label(found)
        pending = names.pending.get(found.adapter)
        if pending is None or pending.found is not found or pending.known is not known or pending.label != label:
            if known is None or is_outdated:
                identified = self._stated(found, core, names)
            else:
                identified = replace(known.identified, naming=_as_pending(known.identified.naming))
            pending = names.pending[found.adapter] = _PendingName(found, known, label, identified)
        return pending.identified

    def need(self, found: FoundModel, core: weakref.ref[Any]) -> Need:
        """How urgent it is to call `find_out`.

        Raises:
            ReferenceError: the model was deleted meanwhile.
        """
        known = self._names_of(_alive(core)).known.get(found.adapter)
        if known is None or self._is_labelled_anew(known, found) or _is_outdated(known, found):
            return Need.UNKNOWN
        if not (known.found is found and _names_a_file(known)) and self._is_sought(known, found):
            return Need.SOUGHT
        is_same = known.found is found and known.version == self.version() and known.slot == self._slot(found)
        return Need.RECHECK if is_same else Need.CHANGED

    def find_out(self, found: FoundModel, core: weakref.ref[Any]) -> None:
        """Find out what can be known now; `latest` says it from then on. No module is held while it is compared with files.

        Raises:
            ReferenceError: the model was deleted meanwhile.
        """
        names = self._names_of(_alive(core))
        version, slot, label = self.version(), self._slot(found), self._label(found)
        before = names.known.get(found.adapter)
        try:
            findings = names.findings.setdefault(found.adapter, Findings())
            identified = self._identify(found, core, findings)
        except ReferenceError:
            raise
        except Exception:
            # What fails now fails the next time, too: the model is called by its class.
            identified = replace(self._stated(found, core, names), naming=_as_class(found, label))
            names.known[found.adapter] = _KnownName(identified, found, version, slot, label)
            raise
        if before is not None and before.identified == identified:
            identified = before.identified  # the same object: nothing to describe again
        names.known[found.adapter] = _KnownName(identified, found, version, slot, label)
        names.pending.pop(found.adapter, None)

    def version(self) -> Version:
        """Another one: finding out again may give another answer about an unchanged model."""
        return self._sources.version()

    def _names_of(self, module: Any) -> _NamesOfModule:
        names = self._names.get(module)
        if names is None:
            names = _NamesOfModule()
            self._names.put(module, names)
        return names

    def _slot(self, found: FoundModel) -> PipelineSlot | None:
        return self._slots.get(found.core) or self._slots.get(found.root)

    def _is_labelled_anew(self, known: _KnownName, found: FoundModel) -> bool:
        return bool(known.label or LABELS.by_id) and known.label != self._label(found)

    def _label(self, found: FoundModel) -> Label | None:
        """What the program called the model, or one of its wrappers."""
        if found.adapter is not None or not LABELS.by_id:
            return None
        return LABELS.of(found.core, found.root, *self._wrappers_between(found))

    def _wrappers_between(self, found: FoundModel) -> Iterator[int]:
        ref = self._sources.registry.ref(found.root) if found.root != found.core else None
        module = ref() if ref is not None else None
        while module is not None and id(module) != found.core:
            yield id(module)
            name = name_of(type(module))
            attribute = WRAPPERS.get("PeftModel" if name.startswith("PeftModel") else name)
            module = entry(tables_of(state_of(module)).modules, attribute) if attribute is not None else None

    def _stated(self, found: FoundModel, core: weakref.ref[Any], names: _NamesOfModule) -> Identified:
        """What the model says of itself; its class where that can't be read: its bytes are shown in any case."""
        try:
            inquiry = ModelInquiry(self._sources, found, names.findings.setdefault(found.adapter, Findings()))
            if found.adapter is not None:
                return Identified(_as_pending(choose_name(inquiry.evidence_of_adapter())))
            slot = self._slot(found)
            evidence = replace(inquiry.stated_evidence(_alive(core), slot), given=self._label(found))
            return Identified(
                naming=_as_pending(choose_name(evidence)),
                architecture=evidence.architecture,
                slot=slot.slot if slot is not None else None,
            )
        except ReferenceError:
            raise
        except Exception as error:  # noqa: BLE001  # what it says is the host's
            self._failures.note("reading what a model says of itself", error)
            return Identified(_as_pending(_as_class(found, self._label(found))))

    def _identify(self, found: FoundModel, core: weakref.ref[Any], findings: Findings) -> Identified:
        slot = self._slot(found) if found.adapter is None else None
        inquiry = ModelInquiry(self._sources, found, findings)
        stated = inquiry.stated_evidence(_alive(core), slot) if found.adapter is None else inquiry.evidence_of_adapter()
        by_origin = inquiry.bytes_by_origin()
        evidence = identify(
            replace(
                stated,
                given=self._label(found),
                bytes_by_origin=by_origin,
                total_bytes=own_weights(found).total_bytes,
                merged_tensors=found.merged_tensors,
                metadata=inquiry.metadata_of([*(path for path, _ in by_origin if path), *found.merged_tensors]),
            )
        )
        naming, matched, agreement = evidence.naming, evidence.matched, evidence.agreement
        assert naming is not None
        for path in naming.files if naming.source == NameSource.LABEL else ():
            if path not in findings.stamps and (stamp := stamp_of(path)) is not None:
                findings.stamps[path] = stamp
        findings.file_naming = evidence.file_naming
        self._account_for(naming, findings, core)
        is_by_values = naming.source == NameSource.VALUES
        samples = Counts(matched.match.matched, matched.match.compared) if is_by_values and matched and matched.match else None
        return Identified(
            naming=naming,
            architecture=stated.architecture,
            metadata=self._merged_metadata(naming.files, findings.stamps),
            file_stamps=_stamps_of(naming.files, findings.stamps),
            slot=slot.slot if slot is not None else None,
            fingerprint=matched.fingerprint if matched is not None and not is_by_values else None,
            samples=_counts(agreement.of_samples) if agreement is not None else samples,
            tensors=_counts(agreement.of_all_tensors) if agreement is not None else None,
            precision=self._precision(inquiry, core),
        )

    def _rivals_of(self, found: FoundModel) -> list[int]:
        """When the other models of the same structure were built of which it isn't certain which file they are from."""
        built: list[int] = []
        for other in self._present:
            if other.core != found.core and other.adapter is None and other.is_built_like(found):
                core = self._sources.registry.ref(other.core)
                module = core() if core is not None else None
                names = self._names.get(module) if module is not None else None
                known = names.known.get(None) if names is not None else None
                if module is not None and (known is None or known.identified.naming.source not in CLAIM_VALUES):
                    built.append(self._sources.registry.built_ns(other.core))
        return sorted(built)

    def _precision(self, inquiry: ModelInquiry, core: weakref.ref[Any]) -> str | None:
        """How the model's weights are stored; if that can't be read, its name doesn't suffer."""
        with self._failures.guard("reading how weights are stored"):
            return inquiry.precision(core())
        return None

    def _account_for(self, naming: Naming, findings: Findings, core: weakref.ref[Any]) -> None:
        """What this model was loaded from isn't what the next one is."""
        files_read = self._sources.files_read
        is_certain = naming.source != NameSource.NAMES_AND_SHAPES
        if naming.candidates or not is_certain:
            files_read.claim(naming.candidates or naming.files, core)
        if naming.files:
            files_read.drop_explained(set(naming.files).__contains__, is_certain)
        elif naming.source in (NameSource.CONFIG, NameSource.PIPELINE):
            files_read.drop_explained(lambda path: any(was_read(origin, [path]) for origin in findings.stated_origins))

    def _is_sought(self, known: _KnownName, found: FoundModel) -> bool:
        """Whether enough was read since that the model may be from it; hosts read data from small files, too, all the time."""
        files_read, version = self._sources.files_read, known.version[0]
        return files_read.version != version and files_read.bytes_read_since(version) * MOST_SHRUNK >= found.held_bytes

    def _merged_metadata(self, files: Sequence[str], stamps: Mapping[str, Stamp]) -> Mapping[str, str]:
        merged: dict[str, str] = {}
        for path in reversed(files):  # the file with most of the model has the last word
            merged.update(self._sources.metadata.of(path, stamps.get(path)))
        return merged


def _alive(core: weakref.ref[Any]) -> Any:
    """The module.

    Raises:
        ReferenceError: it was deleted.
    """
    module = core()
    if module is None:
        raise ReferenceError("the model was deleted while it was described")
    return module


def _is_outdated(known: _KnownName, found: FoundModel) -> bool:
    """Whether another file was loaded into the model since."""
    if known.found is found:
        return False
    now, before = own_weights(found), own_weights(known.found)
    file = file_of_most(now.bytes_by_origin, now.total_bytes)
    return file is not None and file != file_of_most(before.bytes_by_origin, before.total_bytes)


def _names_a_file(known: _KnownName) -> bool:
    return known.identified.naming.source in FROM_FILES


def _as_pending(naming: Naming) -> Naming:
    """The same name, while more is to be found out; the program's own is known."""
    if naming.source == NameSource.LABEL:
        return naming
    return replace(naming, source=NameSource.PENDING, confidence=0.0, files=(), candidates=())


def _as_class(found: FoundModel, label: Label | None) -> Naming:
    if label is not None:
        return Naming(label.name, NameSource.LABEL, CONFIDENCE[NameSource.LABEL], label.files)
    return Naming("LoRA" if found.adapter is not None else found.class_name, NameSource.CLASS, 0.0)


def _counts(agreement: Agreement | None) -> Counts | None:
    return Counts(agreement.matched, agreement.compared) if agreement is not None else None


def _stamps_of(files: Sequence[str], stamps: Mapping[str, Stamp]) -> tuple[tuple[int, int], ...]:
    """Size and modification time of each file when it was read; empty where that isn't known of all."""
    known = [stamps.get(path) for path in files]
    found = tuple((stamp.size_bytes, stamp.modified_ns) for stamp in known if stamp is not None)
    return found if len(found) == len(known) else ()
