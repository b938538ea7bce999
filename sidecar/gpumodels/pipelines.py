"""diffusers' pipelines: which model stands in which place of which pipeline. They are no modules, so they are listened for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from gpumodels.failures import Failures
from gpumodels.weak_table import WeakTable
from gpumodels.wraps import Wraps, all_subclasses


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model stands."""

    slot: str
    """`unet`, `text_encoder_2`."""
    pipeline: str | None
    """What the pipeline was loaded from: `org/name` or a path."""


class Pipelines:
    """Weak references to live pipelines."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures
        self._wraps = Wraps()
        self._pipelines: WeakTable[None] = WeakTable()
        self._type: type | None = None

    @property
    def arrivals(self) -> Mapping[str, Callable[[ModuleType], None]]:
        """Modules to be wrapped when they are there, each with what wraps it."""
        return {"diffusers.pipelines.pipeline_utils": self._diffusers_arrived}

    def types(self) -> set[type]:
        """Classes of pipelines; none without diffusers."""
        return all_subclasses(self._type) if self._type is not None else set()

    def add_all(self, pipelines: Iterable[Any]) -> None:
        """Pipelines that were there before."""
        for pipeline in pipelines:
            self._pipelines.put(pipeline, None)

    def places(self) -> dict[int, Place]:
        """By the module's id, for all components that are modules or anything else: ids hold for the moment only."""
        found: dict[int, Place] = {}
        for ref in self._pipelines.refs():
            pipeline = ref()
            if pipeline is None:
                continue
            with self._failures.guard("reading a pipeline"):
                state = pipeline.__dict__
                stated = state.get("_internal_dict")
                if not isinstance(stated, dict):
                    continue
                name = stated.get("_name_or_path")
                for slot in list(dict.keys(stated)):
                    component = state.get(slot)
                    if component is not None and not slot.startswith("_"):
                        found[id(component)] = Place(slot, name if isinstance(name, str) else None)
        return found

    def remove(self) -> None:
        """Leave diffusers as it was."""
        with self._failures.guard("unwrapping pipelines"):
            self._wraps.unwrap_all()

    def _diffusers_arrived(self, module: ModuleType) -> None:
        with self._failures.guard("wrapping DiffusionPipeline.register_modules"):
            self._type = module.DiffusionPipeline
            self._wraps.wrap(self._type, "register_modules", self._around_register_modules)

    def _around_register_modules(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Every pipeline's `__init__` calls it."""

        def register_modules(pipeline: Any, **components: Any) -> Any:
            result = original(pipeline, **components)
            with self._failures.guard("noting a pipeline"):
                self._pipelines.put(pipeline, None)
            return result

        return register_modules
