from __future__ import annotations

import copy
import gc
import io
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from modules import Attached, Backbone, Block, a_fake, attached, distinct_bytes


def the_only(sidecar: Attached):  # type: ignore[no-untyped-def]
    (found,) = sidecar.scan()
    return found


def test_a_model_is_one_root_with_the_sum_of_its_distinct_storages() -> None:
    with attached() as sidecar:
        model = Backbone()
        found = the_only(sidecar)
        assert found.class_name == "Backbone"
        assert found.bytes_by_device == {"cpu": distinct_bytes(model)}
        assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
        assert found.dtypes == {"float32": distinct_bytes(model)}
        assert sidecar.failures.count == 0


def test_the_tree_holds_only_modules_with_memory_in_themselves_or_below() -> None:
    with attached() as sidecar:
        model = Backbone(blocks=2)
        tree = the_only(sidecar).tree
        assert tree.names == ("", "blocks", "0", "q", "k", "1", "q", "k")
        assert tree.depths == (0, 1, 2, 3, 3, 2, 3, 3)
        assert [tree.class_names[index] for index in tree.classes][:4] == ["Backbone", "ModuleList", "Block", "Linear"]
        assert sum(size for *_, size in tree.memory) == distinct_bytes(model)


def test_tied_weights_count_once_and_are_marked() -> None:
    with attached() as sidecar:
        model = nn.ModuleDict({"embed": nn.Embedding(100, 64), "head": nn.Linear(64, 100, bias=False)})
        model["head"].weight = model["embed"].weight
        found = the_only(sidecar)
        assert found.bytes_by_device == {"cpu": 100 * 64 * 4}
        assert found.parameters == 100 * 64
        assert found.shared_bytes == 0
        assert [size for *_, size in found.tree.shared] == [100 * 64 * 4]
        assert found.tree.names == ("", "embed", "head")


def test_a_small_view_counts_the_whole_storage_that_it_pins() -> None:
    with attached() as sidecar:
        large = torch.zeros(1000, 100)
        model = nn.Module()
        model.register_buffer("corner", large[:2, :2])
        model.register_buffer("row", large[5])
        assert the_only(sidecar).bytes_by_device == {"cpu": 1000 * 100 * 4}
        assert model is not None


def test_a_module_under_two_roots_counts_with_the_first_and_is_marked_with_the_second() -> None:
    with attached() as sidecar:
        common = Block()
        first = nn.ModuleDict({"common": common})
        second = nn.ModuleDict({"common": common, "own": nn.Linear(8, 8)})
        found = sidecar.scan()
        assert [sum(one.bytes_by_device.values()) for one in found] == [distinct_bytes(first), distinct_bytes(second["own"])]
        assert [one.shared_bytes for one in found] == [0, distinct_bytes(common)]


def test_parameters_on_meta_take_nothing_and_are_counted_as_missing() -> None:
    with attached() as sidecar:
        model = Backbone(blocks=2)
        half = distinct_bytes(model.blocks[0])
        model.blocks[0].to("meta")
        found = the_only(sidecar)
        assert found.bytes_by_device == {"cpu": half}
        assert found.missing_bytes == half
        assert len(found.tree.names) == 8


def test_fake_tensors_count_on_the_device_that_they_report() -> None:
    with attached() as sidecar:
        model = nn.Linear(4, 4, bias=False)
        model.weight = nn.Parameter(a_fake((5120, 5120), "cuda:1"), requires_grad=False)
        found = the_only(sidecar)
        assert found.bytes_by_device == {"cuda:1": 5120 * 5120 * 2}
        assert found.dtypes == {"bfloat16": 5120 * 5120 * 2}


def test_modules_that_hold_each_other_in_a_circle_are_one_model() -> None:
    with attached() as sidecar:
        parent, child = nn.Module(), Block()
        parent.child = child
        child.parent = parent
        assert the_only(sidecar).bytes_by_device == {"cpu": distinct_bytes(child)}


def test_copies_and_unpickled_modules_are_found_though_they_register_nothing() -> None:
    with attached() as sidecar:
        model = Backbone()
        copied = copy.deepcopy(model)
        stream = io.BytesIO()
        torch.save(model, stream)
        stream.seek(0)
        loaded = torch.load(stream, weights_only=False)
        assert [one.bytes_by_device for one in sidecar.scan()] == [{"cpu": distinct_bytes(model)}] * 3
        assert copied is not loaded


def test_a_deleted_model_is_freed_at_once_while_a_scan_goes_on() -> None:
    with attached() as sidecar:
        models = [Backbone(blocks=20) for _ in range(4)]
        watched = [weakref.ref(model) for model in models]
        freed: list[int] = []

        def delete_one() -> None:
            if models:
                position = len(models) - 1
                models.pop()
                if watched[position]() is None:
                    freed.append(position)

        gc.disable()
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("gpumodels.support.slices.SLICE_SECONDS", 0.0)
                sidecar.scan(pause=delete_one)
        finally:
            gc.enable()
        assert freed == [3, 2, 1, 0]
        assert sidecar.scan() == []


def test_a_model_loaded_from_a_file_is_named_for_it_through_moves_and_casts(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / "my_tune_v3_fp16.safetensors"
    save_file(Backbone().state_dict(), path)
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(load_file(path))
        (loaded,) = sidecar.models()
        model.half()
        (cast,) = sidecar.models()
        assert (loaded.name, loaded.name_source, loaded.files) == ("my_tune_v3", "state dict", (str(path),))
        assert (cast.name, cast.name_source, cast.files) == ("my_tune_v3", "state dict", (str(path),))
        assert not any(vars(parameter) for parameter in model.parameters())


def test_a_tensor_at_a_freed_mappings_address_is_not_taken_for_the_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / "gone.safetensors"
    save_file({"weight": torch.zeros(512, 512)}, path)
    with attached() as sidecar:
        weights = load_file(path)
        tensor = weights["weight"]
        assert sidecar.origin_tracker.origin_of(tensor, tensor.untyped_storage()) is not None
        pointer = tensor.untyped_storage().data_ptr()
        mapping = next(one for one in sidecar.origin_tracker._mappings._made if one.start <= pointer < one.end)
        assert not mapping.is_freed()
        del weights, tensor
        assert mapping.is_freed()


def test_two_models_of_one_class_loaded_from_different_files_each_get_their_own(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with attached() as sidecar:
        models = []
        for name in ("alpha", "beta"):
            save_file(Backbone().state_dict(), tmp_path / f"{name}_v1.safetensors")
            models.append(Backbone())
            models[-1].load_state_dict(load_file(tmp_path / f"{name}_v1.safetensors"), assign=True)
        assert sorted(one.name for one in sidecar.models()) == ["alpha_v1", "beta_v1"]


def test_a_device_that_was_misread_while_the_host_was_busy_is_read_again() -> None:
    with attached() as sidecar:
        model = nn.Linear(4, 4, bias=False)
        weight = a_fake((512, 512), "cuda:0")
        model.weight = nn.Parameter(weight, requires_grad=False)
        weight.fake_mode.in_kernel_invocation = True  # type: ignore[attr-defined]
        assert the_only(sidecar).bytes_by_device == {}
        weight.fake_mode.in_kernel_invocation = False  # type: ignore[attr-defined]
        assert the_only(sidecar).bytes_by_device == {"cuda:0": 512 * 512 * 2}


def test_a_model_that_did_not_change_is_the_same_object_after_the_next_scan() -> None:
    with attached() as sidecar:
        still, moved = Backbone(), Backbone()
        before = {one.root: one for one in sidecar.scan()}
        moved.blocks[0].q.half()
        after = {one.root: one for one in sidecar.scan()}
        assert after[id(still)] is before[id(still)]
        assert after[id(moved)] is not before[id(moved)]


class Quantized(nn.Module):
    """What a library puts in the place of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(256, 256, dtype=torch.uint8))


class Adapted(nn.Module):
    """What a library puts around a linear layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = layer
        self.down = nn.Linear(256, 4, bias=False)


@pytest.mark.parametrize("exchanged", [lambda _: Quantized(), Adapted])
def test_layers_that_are_exchanged_are_in_their_model_at_once(exchanged: Callable[[nn.Module], nn.Module]) -> None:
    with attached() as sidecar:
        model = Backbone(blocks=12)
        sidecar.scan()
        for block in model.blocks:
            assert isinstance(block, Block)
            block.q = exchanged(block.q)  # type: ignore[assignment]
        (found,) = sidecar.scanner.scan(lambda: None, everything=False)
        assert found.bytes_by_device == {"cpu": distinct_bytes(model)}


def test_a_change_without_notice_is_found_however_little_time_there_is() -> None:
    """The few modules of each model that are compared first may take all of it."""
    with attached() as sidecar:
        model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(100)))
        before = the_only(sidecar).bytes_by_device["cpu"]
        model[50]._parameters["weight"] = nn.Parameter(torch.zeros(4, 8))
        found = [sidecar.scanner.scan(lambda: None, everything=False, walk_seconds=1e-9) for _ in range(8)]
        assert [one.bytes_by_device["cpu"] for one in found[-1]] == [before + 4 * 4 * 4]
