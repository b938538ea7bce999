"""Which model it is: everything that is known about one model's name, put together, and remembered while it lives."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpumodels.assembling import FoundModel
from gpumodels.failures import Failures
from gpumodels.file_metadata import WITHOUT_SAFETENSORS, FileMetadata
from gpumodels.naming import FROM_FILES, Evidence, Naming, Recognised, choose_name, knows_most
from gpumodels.patches import UNKNOWN_FILE
from gpumodels.pipelines import Pipelines, Place
from gpumodels.provenance import Provenance
from gpumodels.recognition import Recognition
from gpumodels.registry import Registry
from gpumodels.stated_names import StatedNames, stated_names
from gpumodels.weak_table import WeakTable
from gpumodels_shared.schema import Fingerprint


@dataclass(frozen=True, slots=True)
class Identified:
    """One model's name and all that goes with it into a snapshot."""

    naming: Naming
    architecture: str | None
    metadata: Mapping[str, str]
    slot: str | None
    fingerprint: Fingerprint | None
    matched_samples: int | None
    compared_samples: int | None


@dataclass(slots=True)
class _Memory:
    """What stays known of a model while it lives."""

    naming: Naming | None = None
    """What it was loaded from, as far as that was seen, else the first that its values told."""
    latest: Naming | None = None
    """The last that named a file: values are replaced (patched, offloaded, trained) far more often than models are."""
    recognised: Recognised | None = None
    compared: tuple[FoundModel, str | None, tuple[int, int, int]] | None = None
    """What `recognised` was found from; the same again gives the same."""


class Identification:
    """Asked by the sampler about each model in turn."""

    def __init__(
        self,
        registry: Registry,
        provenance: Provenance,
        pipelines: Pipelines,
        failures: Failures,
        pause: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._pipelines = pipelines
        self._failures = failures
        self._recognition = Recognition(registry, provenance, failures, pause)
        self._metadata = FileMetadata(failures)
        self._memories: WeakTable[_Memory] = WeakTable()
        self._places: dict[int, Place] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the viewer should say about this process."""
        return () if self._metadata.available else (WITHOUT_SAFETENSORS,)

    def look_at_pipelines(self) -> None:
        """Once before the models of a scan: which of them stand in pipelines."""
        self._places = self._pipelines.places()

    def identify(self, found: FoundModel, core: weakref.ref[Any]) -> Identified:
        """All that is known of the model's name. No module is held while it is compared with files.

        Raises:
            ReferenceError: it was deleted meanwhile.
        """
        stated, memory = self._stated(core)
        total = found.held_bytes
        recognised = None
        if not knows_most(found.bytes_by_origin, total):
            recognised = self._recognised(found, stated.config_name, memory)
        place = self._places.get(found.core) or self._places.get(found.root)
        paths = {path for path, _ in found.bytes_by_origin if path}
        paths.update(recognised.paths if recognised is not None else ())
        naming = choose_name(
            Evidence(
                class_name=found.class_name,
                bytes_by_origin=found.bytes_by_origin,
                total_bytes=total,
                metadata={path: self._metadata.of(path) for path in paths},
                recognised=recognised,
                config_name=stated.config_name,
                pipeline_name=place.pipeline if place is not None else None,
                architecture=stated.architecture,
                attributes=stated.attributes,
            )
        )
        naming = self._held_on_to(naming, found, total, memory)
        match = recognised.match if recognised is not None and naming.source == "values" else None
        return Identified(
            naming=naming,
            architecture=stated.architecture,
            metadata=self._merged_metadata(naming.files),
            slot=place.slot if place is not None else None,
            fingerprint=recognised.fingerprint if recognised is not None and naming.source != "values" else None,
            matched_samples=match.matched if match is not None else None,
            compared_samples=match.compared if match is not None else None,
        )

    def identify_adapter(self, found: FoundModel) -> tuple[Naming, Mapping[str, str]]:
        """An adapter's name: its file's, or the one that it was loaded under."""
        paths = {path for path, _ in found.bytes_by_origin if path}
        naming = choose_name(
            Evidence(
                class_name="LoRA",
                bytes_by_origin=found.bytes_by_origin,
                total_bytes=found.held_bytes,
                metadata={path: self._metadata.of(path) for path in paths},
                attributes=(found.adapter,) if found.adapter not in (None, UNKNOWN_FILE, "default") else (),
            )
        )
        return naming, self._merged_metadata(naming.files)

    def _stated(self, core: weakref.ref[Any]) -> tuple[StatedNames, _Memory]:
        module = core()
        if module is None:
            raise ReferenceError("the model was deleted while it was described")
        memory = self._memories.get(module)
        if memory is None:
            memory = _Memory()
            self._memories.put(module, memory)
        return stated_names(module), memory

    def _recognised(self, found: FoundModel, config_name: str | None, memory: _Memory) -> Recognised:
        wanted = (found, config_name, self._recognition.version)
        if memory.recognised is None or memory.compared != wanted:
            memory.recognised = self._recognition.recognise(found, config_name, memory.recognised)
            memory.compared = wanted
        return memory.recognised

    def _held_on_to(self, naming: Naming, found: FoundModel, total: int, memory: _Memory) -> Naming:
        """The name from a file stays when its evidence thins out, unless something else was loaded over it.

        Nor where the values were another file's meanwhile: what they are by now can be of either, or of both.
        """
        if naming.source in FROM_FILES:
            if naming.source != "values" or memory.naming is None:
                memory.naming = naming
            memory.latest = naming
            return naming
        former = memory.latest
        if former is None or naming.candidates or memory.naming is None or former.name != memory.naming.name:
            return naming
        others = sum(size for (path, _), size in found.bytes_by_origin.items() if path not in former.files)
        if others * 2 > total:
            memory.naming = memory.latest = None
            return naming
        return former

    def _merged_metadata(self, files: Sequence[str]) -> Mapping[str, str]:
        merged: dict[str, str] = {}
        for path in reversed(files):  # the file with most of the model speaks last
            merged.update(self._metadata.of(path))
        return merged
