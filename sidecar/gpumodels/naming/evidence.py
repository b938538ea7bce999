"""What is known about one model's name: the facts that the stages of `identification` work on, and the name that comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from gpumodels.naming.agreement import Agreement
from gpumodels.provenance.labels import Label
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.fingerprint import Match
from gpumodels_shared.schema import Fingerprint, TensorSample


@never_pickled
@dataclass(frozen=True, slots=True)
class Naming:
    """A name, and what it rests on."""

    name: str
    source: str
    """A `NameSource`."""
    confidence: float
    files: tuple[str, ...] = ()
    """What the model was loaded from: every shard."""
    candidates: tuple[str, ...] = ()
    """Files between which the evidence can't decide."""


@never_pickled
class ComparedCheckpoint(NamedTuple):
    """How a model's samples agreed with one checkpoint."""

    file_numbers: tuple[int, ...]
    """Of the files as they were read then (`ReadFile.number`): others mean that the checkpoint was read again since."""
    match: Match


@never_pickled
@dataclass(frozen=True, slots=True)
class MatchedFiles:
    """What comparing a model with files gave."""

    fingerprint: Fingerprint | None
    """The values that were compared; None where only tensor names and shapes could be."""
    paths: tuple[str, ...] = ()
    """The files that agree best, all shards of each; files of several checkpoints on a tie."""
    match: Match | None = None
    """How the best of them agree; None where only tensor names and shapes could be compared."""
    contradicts_config: bool = False
    """The files that the config names have tensors of the same names and shapes, with other values."""
    is_outdated: bool = False
    """The values were sampled before they were copied to where they are now, and may have been written over since: that they
    differ from a file's says nothing."""
    is_guess: bool = False
    """Nothing shows that the model was ever filled from the files at `paths`."""
    writes: tuple[int | None, ...] = ()
    """How often some of its tensors had been written to then, where only names and shapes could be compared."""
    compared: Mapping[str, ComparedCheckpoint] = field(default_factory=dict)
    """By checkpoint, everything that was compared."""


@never_pickled
@dataclass(frozen=True, slots=True)
class FileAgreement:
    """How a model agrees with the files that it is named by."""

    of_samples: Agreement
    of_all_tensors: Agreement | None = None
    """Counted where some samples don't agree; None while it isn't, or where it can't be."""
    others: tuple[TensorSample, ...] = ()
    """The samples that are neither the file's nor made from it."""


class Inquiry(Protocol):
    """What a stage may ask about its model. An answer may take reading files; it is remembered while nothing changes."""

    def matched_files(self, is_name_claimed: bool) -> MatchedFiles:
        """Compare the model with the files that this process read, and with those that its config names.

        Args:
            is_name_claimed: a name depends on what its values are right now, so an earlier answer won't do.
        """

    def metadata_of(self, paths: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Each file's own metadata, by path."""

    def symlinks_to(self, path: str) -> tuple[str, ...]:
        """The symlinks by which people know a file that a store calls by its content's hash; empty for other files."""

    def agreement_with(self, paths: Sequence[str]) -> FileAgreement | None:
        """Compare the model with these files; None where its values are out of reach, or the files have changed."""

    def files_of(self, samples: tuple[TensorSample, ...]) -> MatchedFiles:
        """Compare some of the model's samples with the files that this process read."""

    def were_saved_from(self, paths: Sequence[str], files: Sequence[str]) -> bool:
        """Whether this process wrote the files at these paths, of the model's values, and these are those of `files` yet."""

    def saved_from(self, paths: Sequence[str]) -> tuple[str, ...]:
        """The files whose values this process wrote to these and loaded into the same model again, unchanged; else empty.

        If it did so several times, those where they were first.
        """

    def has_little_of(self, paths: Sequence[str]) -> bool:
        """Whether it is made of a part of these files and of parts that they don't have, as a ControlNet of a UNet's blocks."""

    def files_copied_since(self, paths: Sequence[str]) -> tuple[str, ...]:
        """The files that may have been copied over what was loaded from `paths`: it was written to where values are out of reach,
        and these have all of its tensors."""

    def tensors_in_all(self) -> int:
        """How many tensors the model has."""

    def was_loaded_unseen(self) -> bool:
        """Whether values were loaded into it in a way that didn't show which file they are from."""

    def files_read_at_creation(self) -> tuple[str, ...]:
        """The one checkpoint that was read when the model was created and is as large as it; else empty."""

    def file_named_at_creation(self) -> str | None:
        """The one file that the host was told to use when it built the model, if it fits and its values can't be compared."""


@never_pickled
class NothingToAsk:
    """An `Inquiry` about a model of which nothing more can be found out."""

    def matched_files(self, is_name_claimed: bool) -> MatchedFiles:
        """No file matches."""
        return MatchedFiles(None)

    def metadata_of(self, paths: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """No file says anything."""
        return {}

    def symlinks_to(self, path: str) -> tuple[str, ...]:
        """No symlink is searched for."""
        return ()

    def agreement_with(self, paths: Sequence[str]) -> FileAgreement | None:
        """Its values are out of reach."""
        return None

    def files_of(self, samples: tuple[TensorSample, ...]) -> MatchedFiles:
        """No file matches."""
        return MatchedFiles(None)

    def were_saved_from(self, paths: Sequence[str], files: Sequence[str]) -> bool:
        """No file was written."""
        return False

    def saved_from(self, paths: Sequence[str]) -> tuple[str, ...]:
        """No file was written."""
        return ()

    def has_little_of(self, paths: Sequence[str]) -> bool:
        """It isn't known what they have."""
        return False

    def files_copied_since(self, paths: Sequence[str]) -> tuple[str, ...]:
        """No write was noticed."""
        return ()

    def tensors_in_all(self) -> int:
        """Unknown: zero."""
        return 0

    def was_loaded_unseen(self) -> bool:
        """No load was noticed."""
        return False

    def files_read_at_creation(self) -> tuple[str, ...]:
        """No file was read."""
        return ()

    def file_named_at_creation(self) -> str | None:
        """No file was named."""
        return None


@never_pickled
@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything known about one model's name. Stages return it with something added or taken away."""

    class_name: str
    bytes_by_origin: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Bytes by (path, source); the path is empty for values that are from no file."""
    total_bytes: int = 0
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Each file's own, by path."""
    merged_tensors: Mapping[str, int] = field(default_factory=dict)
    """By the checkpoint of another model, into how many tensors that model's are merged while the model is used."""
    config_name: str | None = None
    """What its config says that it was loaded from, if it may have been."""
    pipeline_name: str | None = None
    """What the pipeline that it is a component of was loaded from, if the model may have been, too."""
    is_load_seen: bool = True
    """Whether its weights would have been seen being read there; else they only seem to be from there."""
    stated_files: tuple[str, ...] = ()
    """The files where it says that it was loaded from, if nothing shows that it was."""
    architecture: str | None = None
    attributes: tuple[str, ...] = ()
    """The values of its `model_name` and `name`, in this order."""
    label: str | None = None
    """The name under which a program holds it, as PEFT holds adapters: chosen for the values that it was loaded with."""
    given: Label | None = None
    """What the program called it itself."""
    inquiry: Inquiry = field(default_factory=NothingToAsk)

    matched: MatchedFiles | None = None
    files: tuple[str, ...] = ()
    """Files that it, or a part of it, is from, whether they give it a name or not."""
    is_file_known: bool = False
    """Whether most of it is from one of them."""
    naming: Naming | None = None
    """The name, once a stage has chosen one."""
    file_naming: Naming | None = None
    """The last name that a file gave it: values are replaced (patched, offloaded, trained) far more often than models are."""
    agreement: FileAgreement | None = None
    """How it agrees with the files of its name, where not all of it does."""
