"""Knows which model fills which slot of which diffusers pipeline. Pipelines are no modules, so their constructor is observed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

from gpumodels.observing.observers import Observers
from gpumodels.support.failures import Failures
from gpumodels.support.instances import is_a, state_of
from gpumodels.support.known_classes import all_subclasses
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.weak_table import WeakTable


@never_pickled
@dataclass(frozen=True, slots=True)
class PipelineSlot:
    """A slot of a pipeline that a model fills."""

    slot: str
    """Its name, such as `unet` or `text_encoder_2`."""
    pipeline: str | None
    """What the pipeline was loaded from: `org/name` or a path."""


@never_pickled
class PipelineSlots:
    """Weak references to live pipelines, and the slots of their components."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self._pipelines: WeakTable[None] = WeakTable()
        self._type: type | None = None

    def observe(self, observers: Observers) -> None:
        """Observe nothing yet: torch itself has no pipelines."""

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """diffusers' module of pipelines, with the function to call once it is imported."""

        def diffusers(module: ModuleType) -> None:
            self._type = module.DiffusionPipeline
            made = module.DiffusionPipeline.register_modules  # every pipeline's `__init__` calls it
            observers.observe(made, "noting a pipeline", returned=self._registered)

        return {"diffusers.pipelines.pipeline_utils": diffusers}

    def types(self) -> set[type]:
        """Classes of pipelines; none without diffusers. The instances that exist already are to be given to `add_all`, once."""
        return all_subclasses(self._type) if self._type is not None else set()

    def add_all(self, pipelines: Iterable[Any]) -> None:
        """Add pipelines that were made before the constructor was observed."""
        for pipeline in pipelines:
            self._pipelines.put(pipeline, None)

    def by_id(self) -> dict[int, PipelineSlot]:
        """The slots of all components, modules or not, by the component's id. Ids are valid only for the moment."""
        found: dict[int, PipelineSlot] = {}
        for ref in self._pipelines.refs():
            pipeline = ref()
            if pipeline is None:
                continue
            with self._failures.guard("reading a pipeline"):
                state = state_of(pipeline)
                stated = state.get("_internal_dict")
                if not is_a(stated, dict):
                    continue
                name = dict.get(stated, "_name_or_path")
                for slot in list(dict.keys(stated)):
                    component = state.get(slot)
                    if component is not None and type(slot) is str and not slot.startswith("_"):
                        found[id(component)] = PipelineSlot(slot, name if type(name) is str else None)
        return found

    def _registered(self, frame: FrameType, _result: Any) -> None:
        self._pipelines.put(frame.f_locals["self"], None)
