"""Finds what a training engine's own optimizer keeps: a second copy of the weights in float32, and flat buffers of gradients.

DeepSpeed wraps torch's optimizers in classes of its own. The optimizer inside holds the copies only while it steps, if at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gpumodels.support.instances import name_of, package_of, state_of
from gpumodels.support.never_pickled import never_pickled

OPTIMIZER: Final = "optimizer"
"""The attribute in which an engine keeps its optimizer."""


@never_pickled
class OptimizerAttributes(NamedTuple):
    """In which attributes an optimizer keeps tensors, or lists and dicts of these."""

    weights: str
    gradients: tuple[str, ...] = ()


OPTIMIZERS: Final[Mapping[tuple[str, str], OptimizerAttributes]] = {
    ("deepspeed", "DeepSpeedZeroOptimizer_Stage3"): OptimizerAttributes(
        "fp32_partitioned_groups_flat", ("grad_partitions_flat_buffer", "averaged_gradients")
    ),
    ("deepspeed", "DeepSpeedZeroOptimizer"): OptimizerAttributes("single_partition_of_fp32_groups", ("averaged_gradients",)),
    ("deepspeed", "BF16_Optimizer"): OptimizerAttributes("fp32_groups_flat_partition", ("fp32_groups_gradients_flat",)),
    ("deepspeed", "FP16_Optimizer"): OptimizerAttributes("fp32_groups_flat"),
    ("deepspeed", "FP16_UnfusedOptimizer"): OptimizerAttributes("fp32_groups"),
}
"""By (package, class), DeepSpeed 0.19.8's optimizers."""


def kept_by_optimizer(state: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """What an engine's optimizer keeps of weights and of gradients: tensors, and lists and dicts of them.

    Args:
        state: the instance dictionary of a module, which need not be an engine.
    """
    optimizer = state.get(OPTIMIZER)
    kind = type(optimizer)
    attributes = OPTIMIZERS.get((package_of(kind) or "", name_of(kind))) if optimizer is not None else None
    if attributes is None:
        return [], []
    kept = state_of(optimizer)
    return [kept.get(attributes.weights)], [kept.get(name) for name in attributes.gradients]
