"""Whether a library filled a model from the place that its config names, as the model itself shows where nobody saw it happen.

A config bears the same name whether weights were loaded or not, and so does one that a server passes to modules of its own. What
transformers and diffusers leave behind when they load weights, and tensors that were never written to since, say more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, Final

from gpumodels.naming.weight_conversions import ATTRIBUTE
from gpumodels.support.instances import is_a, mro_of, name_of, package_of

OF_TRANSFORMERS: Final = ("transformers", "PreTrainedModel")
OF_DIFFUSERS: Final = ("diffusers", "ModelMixin")
"""Package and name of the base of the models that each of them loads."""
TENSORS_COMPARED: Final = 256
"""Of so many of a model's tensors it is found out whether they were written to."""


def is_marked_as_loaded(module: Any, state: Mapping[str, Any]) -> bool:
    """Whether transformers or diffusers left a sign that it loaded weights into this model.

    Args:
        module: the model.
        state: its instance dictionary.
    """
    bases = {(package_of(kind), name_of(kind)) for kind in mro_of(type(module))}
    if OF_TRANSFORMERS in bases and _marks_what_it_loads():
        return ATTRIBUTE in state
    # Both set what they load to evaluation, and diffusers writes into its config then where it loaded it from.
    return state.get("training") is False and (
        OF_TRANSFORMERS in bases or (OF_DIFFUSERS in bases and _says_where_from(state.get("_internal_dict")))
    )


def were_written(writes: Iterable[int | None], loads: int) -> bool:
    """Whether half of these tensors or more were written to since they were loaded.

    Args:
        writes: how often each of them was written to in place since it was made; None where that isn't counted.
        loads: how often loading them does: weights that were unpickled count as written once, others aren't.
    """
    counts = [count for count in writes if count is not None]
    return 2 * sum(count > loads for count in counts) >= len(counts) > 0


def _says_where_from(config: Any) -> bool:
    return is_a(config, dict) and "_name_or_path" in dict.keys(config)


def _marks_what_it_loads() -> bool:
    """Whether this is a transformers that leaves its conversions in each model that it loads: since version 5."""
    library = sys.modules.get("transformers")
    version = library.__dict__.get("__version__") if is_a(library, ModuleType) else None
    major = version.partition(".")[0] if type(version) is str else ""
    return not major.isdigit() or int(major) >= 5
