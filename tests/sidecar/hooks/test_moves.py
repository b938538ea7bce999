"""What is known of values goes with them, wherever `Module.to` and its like put them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from loads import a_file, origins, the_model
from modules import Backbone, attached


def test_buffers_are_other_objects_after_a_cast_and_keep_their_origin(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        model.register_buffer("table", torch.randn(64, 64))
        model.load_state_dict(load_file(a_file(tmp_path / "mine.safetensors", model)))
        before = model.table
        model.half()
        assert model.table is not before
        assert origins(sidecar, model) == {"mine.safetensors"}


def test_tensors_can_be_swapped_though_they_are_remembered(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(load_file(a_file(tmp_path / "mine.safetensors")))
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            model.half()
            assert origins(sidecar, model) == {"mine.safetensors"}
            model.load_state_dict({key: value.half() for key, value in load_file(tmp_path / "mine.safetensors").items()})
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)
        assert sidecar.failures.count == 0


def test_a_cast_dict_that_goes_on_to_an_accelerator_is_known_by_the_values_it_had(tmp_path: Path) -> None:
    with attached() as sidecar:
        path = a_file(tmp_path / "mine_v1.safetensors")
        model = Backbone().bfloat16()
        model.load_state_dict({key: value.bfloat16() for key, value in load_file(path).items()})
        model.to("meta")
        found = the_model(sidecar)
        assert (found.name, found.name_source, found.confidence) == ("mine_v1", "values", 0.97)
        assert found.matched_samples == found.compared_samples
        assert found.files == (str(path),)


WAYS: dict[str, Callable[[nn.Module], Any]] = {
    "to": lambda model: model.to(torch.float16),
    "half": nn.Module.half,
    "bfloat16": nn.Module.bfloat16,
    "double": nn.Module.double,
    "type": lambda model: model.type(torch.float16),
    "there and back": lambda model: model.half().float(),
    "nowhere": nn.Module.cpu,
    "to double": lambda model: model.to(dtype=torch.float64, non_blocking=True),
}


@pytest.mark.parametrize("move", WAYS.values(), ids=WAYS.keys())
def test_whichever_way_a_model_is_moved_it_is_still_from_its_file(tmp_path: Path, move: Callable[[nn.Module], Any]) -> None:
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(load_file(a_file(tmp_path / "mine.safetensors")))
        move(model)
        assert origins(sidecar, model) == {"mine.safetensors"}
        assert sidecar.failures.count == 0


def test_a_move_touches_the_module_that_was_moved_once() -> None:
    with attached() as sidecar:
        model = Backbone()
        sidecar.registry.take_changes()
        model.half()
        changes = sidecar.registry.take_changes()
        assert (changes.added, changes.touched) == ((), (id(model),))


def test_a_module_that_stands_in_the_tree_twice_is_carried_over_once(tmp_path: Path) -> None:
    with attached() as sidecar:
        part = nn.Linear(64, 64)
        part.load_state_dict(load_file(a_file(tmp_path / "part.safetensors", nn.Linear(64, 64))))
        model = nn.ModuleList([part, part])
        part.tied = nn.Linear(64, 64)
        part.tied.weight = part.weight
        model.half()
        assert origins(sidecar, part) == {"part.safetensors", "unknown"}  # of the new part's bias nothing is known
        assert part.tied.weight is part.weight
        assert sidecar.failures.count == 0


def test_a_module_that_holds_itself_ends_as_torch_ends_it() -> None:
    with attached() as sidecar:
        sidecar.origin_tracker.files_read.add("/m/a.safetensors")  # or nothing would be looked at
        model = nn.Linear(4, 4)
        model.itself = model
        with pytest.raises(RecursionError):
            model.half()
        assert sidecar.failures.count == 0
        del model.itself


def test_a_move_that_raises_is_the_hosts_own_and_the_next_is_seen(tmp_path: Path) -> None:
    class Refusing(nn.Linear):
        refuses = True

        def _apply(self, fn: Any, recurse: bool = True) -> Any:
            if self.refuses:
                raise RuntimeError("the host's")
            return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    with attached() as sidecar:
        model = Refusing(64, 64)
        model.load_state_dict(load_file(a_file(tmp_path / "mine.safetensors", nn.Linear(64, 64))))
        with pytest.raises(RuntimeError, match="the host's"):
            model.half()
        assert origins(sidecar, model) == {"mine.safetensors"}
        model.refuses = False
        model.half()
        assert origins(sidecar, model) == {"mine.safetensors"}
        assert sidecar.failures.count == 0


def test_values_that_came_from_nowhere_come_from_nowhere_after_a_move(tmp_path: Path) -> None:
    with attached() as sidecar:
        load_file(a_file(tmp_path / "other.safetensors"))
        model = Backbone()
        model.load_state_dict({key: torch.randn_like(value) for key, value in model.state_dict().items()})
        model.half()
        assert origins(sidecar, model) <= {"unknown", ""}


def test_nothing_is_carried_over_once_it_is_closed(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(load_file(a_file(tmp_path / "mine.safetensors")))
        sidecar.origin_tracker.close()
        model.half()
        assert origins(sidecar, model) == {"unknown"}
