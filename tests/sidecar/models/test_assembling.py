"""Models of every shape: what torch's own tables don't show is found, and what can't be read hides no model."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.models.assembling import FoundModel
from modules import Attached, Backbone, Block, attached, distinct_bytes

FLOAT = 4
BLOCK_BYTES = distinct_bytes(Block())
WIDTH = 256


def rows(sidecar: Attached) -> list[tuple[str, dict[str, int]]]:
    """What a scan finds, without what holds nothing."""
    return [(found.class_name, dict(found.bytes_by_device)) for found in sidecar.scan()]


def the_only(sidecar: Attached) -> FoundModel:
    (found,) = sidecar.scan()
    return found


def blocks(count: int = 3) -> list[Block]:
    return [Block() for _ in range(count)]


# Modules that are kept in plain attributes.


class Stack:
    """A plain object that holds modules."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers


class Slotted:
    __slots__ = ("layers",)

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers


@dataclass
class Listed:
    layers: list[Any] = field(default_factory=list)


class Layers(list[Any]):
    """A list of somebody's own."""

    def __iter__(self) -> Any:
        raise AssertionError("foreign code ran")

    def __len__(self) -> int:
        raise AssertionError("foreign code ran")


Pair = namedtuple("Pair", ["first", "rest"])

KEPT_AS: dict[str, Callable[[list[Block]], Any]] = {
    "list": lambda parts: parts,
    "tuple": tuple,
    "dict": lambda parts: {f"block{number}": part for number, part in enumerate(parts)},
    "dict by number": lambda parts: dict(enumerate(parts)),
    "ordered dict": lambda parts: OrderedDict(enumerate(parts)),
    "set": set,
    "deque": deque,
    "list of lists": lambda parts: [[part] for part in parts],
    "dict of lists": lambda parts: {"down": parts[:1], "up": parts[1:]},
    "list of dicts": lambda parts: [{"attention": part, "scale": 1.0} for part in parts],
    "named tuple": lambda parts: Pair(parts[0], parts[1:]),
    "somebody's list": Layers,
    "object": Stack,
    "slotted object": Slotted,
    "dataclass": Listed,
    "namespace": lambda parts: SimpleNamespace(layers=parts),
    "list of objects": lambda parts: [Stack([part]) for part in parts],
    "object in an object": lambda parts: Stack([Stack(parts)]),
}


class Keeper(nn.Module):
    """A model whose blocks torch doesn't know of."""

    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(WIDTH))
        self.layers = kept


@pytest.mark.parametrize("keep", KEPT_AS.values(), ids=KEPT_AS.keys())
def test_blocks_in_plain_attributes_are_one_model(keep: Callable[[list[Block]], Any]) -> None:
    with attached() as sidecar:
        model = Keeper(keep(blocks()))
        found = the_only(sidecar)
        assert found.class_name == "Keeper"
        assert found.bytes_by_device == {"cpu": 3 * BLOCK_BYTES + WIDTH * FLOAT}
        assert found.tree.names.count("q") == 3
        assert sidecar.failures.count == 0
        assert model is not None


def test_the_layer_tree_names_blocks_in_a_list_by_attribute_and_position() -> None:
    with attached() as sidecar:
        model = Keeper(blocks(2))
        assert the_only(sidecar).tree.names == ("", "layers.0", "q", "k", "layers.1", "q", "k")
        assert model is not None


def test_a_module_of_603_blocks_in_a_list_is_one_model_and_its_next_look_reads_nothing() -> None:
    with attached() as sidecar:
        model = Keeper([nn.Linear(8, 8) for _ in range(603)])
        found = the_only(sidecar)
        assert found.bytes_by_device == {"cpu": distinct_bytes(model) + 603 * 72 * FLOAT}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sidecar.scanner._reader, "read", lambda *_: pytest.fail("read again"))
            assert the_only(sidecar) is found


def test_a_block_that_is_put_into_the_list_later_joins_the_model_and_one_that_is_taken_out_is_a_model_again() -> None:
    with attached() as sidecar:
        model = Keeper(blocks(1))
        assert the_only(sidecar).bytes_by_device == {"cpu": BLOCK_BYTES + WIDTH * FLOAT}
        model.layers += blocks(2)
        assert the_only(sidecar).bytes_by_device == {"cpu": 3 * BLOCK_BYTES + WIDTH * FLOAT}
        out = model.layers.pop()
        assert sorted(name for name, _ in rows(sidecar)) == ["Block", "Keeper"]
        assert out is not None


def test_a_block_that_loses_its_module_joins_who_keeps_it_in_a_list() -> None:
    with attached() as sidecar:
        block = Block()
        parent = nn.ModuleDict({"block": block, "more": Block()})
        model = Keeper([block])
        assert sorted(rows(sidecar)) == [("Keeper", {"cpu": WIDTH * FLOAT}), ("ModuleDict", {"cpu": 2 * BLOCK_BYTES})]
        del parent
        gc.collect()
        assert rows(sidecar) == [("Keeper", {"cpu": BLOCK_BYTES + WIDTH * FLOAT})]
        assert model is not None


def test_blocks_that_remember_their_model_in_a_list_are_still_its_blocks() -> None:
    with attached() as sidecar:
        model = Keeper(blocks())
        for block in model.layers:
            block.parent = [model]
        assert rows(sidecar) == [("Keeper", {"cpu": 3 * BLOCK_BYTES + WIDTH * FLOAT})]


def test_an_adapter_that_remembers_the_layer_it_adapts_does_not_take_it() -> None:
    with attached() as sidecar:
        base = Backbone()
        adapter: Any = nn.Linear(WIDTH, WIDTH)
        adapter.org_module = [base.blocks[0].q]
        assert sorted(rows(sidecar)) == [
            ("Backbone", {"cpu": distinct_bytes(base)}),
            ("Linear", {"cpu": distinct_bytes(adapter)}),
        ]


def test_models_that_know_each_other_through_a_trainer_stay_two() -> None:
    with attached() as sidecar:
        student: Any = Backbone(1)
        teacher = Backbone(2)
        student.trainer = SimpleNamespace(models=[student, teacher], step=3)
        assert sorted(size["cpu"] for _, size in rows(sidecar)) == [distinct_bytes(student), distinct_bytes(teacher)]


def test_a_librarys_model_in_a_list_stays_a_model() -> None:
    class PreTrainedModel(Backbone):
        pass

    with attached() as sidecar:
        model = Keeper([PreTrainedModel()])
        assert sorted(name for name, _ in rows(sidecar)) == ["Keeper", "PreTrainedModel"]
        assert model is not None


def test_what_is_deleted_from_a_plain_list_is_freed_at_once() -> None:
    with attached() as sidecar:
        model = Keeper(blocks())
        watched = weakref.ref(model.layers[0])
        sidecar.scan()
        del model.layers[0]
        assert watched() is None


# Tensors whose storage can't be read.

TORCH: Any = torch
"""Torch where its own functions have no types."""
WITH_MKLDNN = pytest.mark.skipif(not TORCH.backends.mkldnn.is_available(), reason="no MKL-DNN here")

SPARSE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "coo": torch.Tensor.to_sparse,
    "coalesced coo": lambda dense: dense.to_sparse().coalesce(),
    "csr": torch.Tensor.to_sparse_csr,
    "csc": torch.Tensor.to_sparse_csc,
    "bsr": lambda dense: dense.to_sparse_bsr((2, 2)),
    "bsc": lambda dense: dense.to_sparse_bsc((2, 2)),
}


def sparse_bytes(tensor: torch.Tensor) -> int:
    """Indices and values."""
    if tensor.layout is torch.sparse_coo:
        parts = [tensor._indices(), tensor._values()]
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        parts = [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    else:
        parts = [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return sum(part.untyped_storage().nbytes() for part in parts)


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta")
@pytest.mark.parametrize("where", ["buffer", "parameter", "attribute"])
@pytest.mark.parametrize("make", SPARSE.values(), ids=SPARSE.keys())
def test_a_sparse_tensor_counts_its_indices_and_values_in_its_model(
    make: Callable[[torch.Tensor], torch.Tensor], where: str
) -> None:
    with attached() as sidecar:
        model: Any = nn.Module()
        model.encoder, model.decoder = Backbone(1), Backbone(2)
        heads = make(torch.eye(64))
        if where == "buffer":
            model.register_buffer("alignment_heads", heads, persistent=False)
        elif where == "parameter":
            model.alignment_heads = nn.Parameter(heads)
        else:
            model.alignment_heads = heads
        found = the_only(sidecar)
        expected = distinct_bytes(model.encoder, model.decoder) + sparse_bytes(heads.detach())
        assert found.bytes_by_device == {"cpu": expected}
        assert sidecar.scan() == [found]
        assert sidecar.failures.count == 0


@WITH_MKLDNN
def test_an_opaque_tensor_counts_by_its_elements_and_hides_no_model() -> None:
    with attached() as sidecar:
        model = Backbone()
        plain = distinct_bytes(model)
        model.register_buffer("packed", torch.zeros(512, 512).to_mkldnn())
        found = the_only(sidecar)
        assert found.bytes_by_device == {"cpu": plain + 512 * 512 * FLOAT}
        assert sidecar.scan() == [found]
        assert sidecar.failures.count == 0


@WITH_MKLDNN
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_converted_for_mkldnn_keeps_its_row() -> None:
    from torch.utils import mkldnn

    convert: Any = mkldnn.to_mkldnn
    with attached() as sidecar:
        model = convert(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)))
        gc.collect()
        assert sum(size["cpu"] for _, size in rows(sidecar)) == 2 * (WIDTH + 1) * WIDTH * FLOAT
        assert sidecar.failures.count == 0
        assert model is not None


# Tensors that are made of others, or have others in their attributes.


def test_a_partitioned_parameter_counts_what_is_here_and_stands_for_the_whole() -> None:
    with attached() as sidecar:
        model = nn.Linear(WIDTH, WIDTH, bias=False)
        whole = model.weight.data
        weight: Any = model.weight
        weight.ds_shape, weight.ds_numel, weight.ds_id = whole.shape, whole.numel(), 0
        weight.ds_tensor = whole.flatten()[: WIDTH * WIDTH // 2].clone().half()
        weight.data = torch.empty(0)
        found = the_only(sidecar)
        assert found.bytes_by_device == {"cpu": WIDTH * WIDTH}
        assert found.dtypes == {"float16": WIDTH * WIDTH}
        assert found.parameters == WIDTH * WIDTH
        weight.data = whole
        gathered = the_only(sidecar)
        assert gathered.bytes_by_device == {"cpu": WIDTH * WIDTH + WIDTH * WIDTH * FLOAT}
        assert gathered.parameters == WIDTH * WIDTH
        weight.ds_tensor = torch.zeros(10)
        assert the_only(sidecar).bytes_by_device == {"cpu": 10 * FLOAT + WIDTH * WIDTH * FLOAT}


class Wrapper(torch.Tensor):
    """As TransformerEngine's float8 tensors: nominal outside, several tensors inside, told to nobody."""

    @staticmethod
    def __new__(cls, rows: int, columns: int, **inside: Any) -> Wrapper:
        made: Wrapper = torch.Tensor._make_wrapper_subclass(cls, (rows, columns), dtype=torch.bfloat16)
        return made

    def __init__(self, rows: int, columns: int, **inside: Any) -> None:
        self.__dict__.update(inside)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        if func is torch.ops.aten.detach.default:
            return args[0]
        raise AssertionError(f"foreign code ran: {func}")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function is torch.Tensor.__repr__:
            return "Wrapper"
        return super().__torch_function__(function, types, arguments, options or {})  # type: ignore[no-untyped-call]


def test_a_wrapper_counts_the_tensors_inside_it_and_not_its_nominal_size() -> None:
    with attached() as sidecar:
        model: Any = nn.Module()
        inside = {
            "_data": torch.zeros(512, 512, dtype=torch.uint8),
            "_scale_inv": torch.ones(1),
            "_transpose": torch.zeros(512, 512, dtype=torch.uint8),
            "_quantizer": SimpleNamespace(amax=torch.zeros(16)),
            "_more": {"columnwise": [torch.zeros(100)]},
        }
        model.weight = nn.Parameter(Wrapper(512, 512, **inside), requires_grad=False)
        assert type(model.weight) is Wrapper
        found = the_only(sidecar)
        assert found.bytes_by_device == {"cpu": 2 * 512 * 512 + (1 + 16 + 100) * FLOAT}
        assert found.parameters == 512 * 512
        model.weight.__dict__["_transpose"] = None
        assert the_only(sidecar).bytes_by_device == {"cpu": 512 * 512 + (1 + 16 + 100) * FLOAT}
        assert sidecar.failures.count == 0


def test_a_wrapper_in_a_wrapper_counts_the_innermost() -> None:
    with attached() as sidecar:
        model: Any = nn.Module()
        inner = Wrapper(8, 8, _data=torch.zeros(50_000))
        model.weight = nn.Parameter(Wrapper(8, 8, inner=inner), requires_grad=False)
        assert the_only(sidecar).bytes_by_device == {"cpu": 200_000}


FOREIGN: list[str] = []
"""What was run of the classes below."""


class Quantized(nn.Parameter):
    """As diffusers' parameters of GGUF files: the bytes as they are in the file."""

    def __new__(cls, data: torch.Tensor, quant_type: int) -> Quantized:
        made: Any = torch.Tensor._make_subclass(cls, data, False)
        made.quant_type = quant_type
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        FOREIGN.append(str(function))
        return super().__torch_function__(function, types, arguments, options or {})  # type: ignore[no-untyped-call]


class Shaped(torch.Tensor):
    """As ComfyUI-GGUF's: it says that it has the shape of what it stands for."""

    tensor_shape: torch.Size
    patches: list[Any]

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        return self.tensor_shape

    @property
    def dtype(self) -> Any:  # type: ignore[override]
        FOREIGN.append("dtype")
        return None

    def numel(self) -> int:
        FOREIGN.append("numel")
        return 0

    def detach(self) -> Shaped:
        return self


@pytest.mark.filterwarnings("ignore:The given .* is not writable")
def test_blocks_of_a_mapped_file_count_their_bytes(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(600_000))
    mapped = torch.from_numpy(numpy.memmap(path, mode="r", dtype=numpy.uint8))
    with attached() as sidecar:
        model = nn.Module()
        model.first = Quantized(mapped[:200_000].clone(), 2)
        second: Any = mapped[200_000:].clone().as_subclass(Shaped)
        second.tensor_shape, second.patches = torch.Size([800, 1000]), [("diff", torch.zeros(1000))]
        model.register_buffer("second", second)
        FOREIGN.clear()
        found = the_only(sidecar)
        assert FOREIGN == []
        assert found.bytes_by_device == {"cpu": 600_000}
        assert found.dtypes == {"uint8": 600_000}
        whole = nn.Module()
        whole.block = Quantized(mapped[1000:], 2)
        assert sorted(one.resident_bytes for one in sidecar.models()) == [600_000, 600_000]
        assert sidecar.failures.count == 0


# Several objects around one network.


def test_a_copy_and_a_trace_of_a_model_are_no_second_model() -> None:
    with attached() as sidecar:
        model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        second, third = copy.copy(model), torch.fx.symbolic_trace(model)
        assert rows(sidecar) == [("Sequential", {"cpu": distinct_bytes(model)})]
        expected = distinct_bytes(model)
        del model
        gc.collect()
        assert rows(sidecar) == [("Sequential", {"cpu": expected})]
        assert id(second) != id(third)


def test_an_interface_and_a_backend_around_one_network_are_one_model() -> None:
    class Interface(nn.Module):
        def __init__(self, network: nn.Module, gain: float = 0.0) -> None:
            super().__init__()
            self.network = network
            if gain:
                self.gain = nn.Parameter(torch.tensor(gain))

    with attached() as sidecar:
        network = Backbone()
        first, second, third = Interface(network), Interface(network), Interface(network, 0.5)
        models = sidecar.models()
        assert [(one.name, one.resident_bytes) for one in models] == [
            ("Interface", distinct_bytes(network)),
            ("1 small module", FLOAT),
        ]
        assert len({id(first), id(second), id(third)}) == 3


def test_modules_that_share_all_their_tensors_are_one_model() -> None:
    with attached() as sidecar:
        first, second = Backbone(), Backbone()
        second.load_state_dict(first.state_dict(), assign=True)
        gc.collect()
        assert rows(sidecar) == [("Backbone", {"cpu": distinct_bytes(first)})]


# Wrappers.


class _FabricModule(nn.Module):
    def __init__(self, forward_module: nn.Module, original_module: nn.Module | None = None) -> None:
        super().__init__()
        self._forward_module = forward_module
        self._original_module = original_module or forward_module
        self._strategy = SimpleNamespace(model=forward_module)


class LightningModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._trainer = None


class LitThing(LightningModule):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.loss = nn.CrossEntropyLoss()


def test_fabrics_and_lightnings_wrappers_are_what_they_wrap() -> None:
    with attached() as sidecar:
        model = Backbone()
        lit = LitThing(model)
        wrapped = _FabricModule(nn.DataParallel(lit), lit)
        assert rows(sidecar) == [("Backbone", {"cpu": distinct_bytes(model)})]
        (described,) = sidecar.models()
        assert described.name == "Backbone"
        second = _FabricModule(model)
        assert rows(sidecar) == [("Backbone", {"cpu": distinct_bytes(model)})]
        assert wrapped is not second


def test_a_lightning_module_of_two_networks_or_with_weights_of_its_own_is_itself() -> None:
    with attached() as sidecar:
        gan = LitThing(Backbone(1))
        gan.discriminator = Backbone(2)
        own = LitThing(Backbone(1))
        own.scale = nn.Parameter(torch.zeros(math.prod((4, 4))))
        assert [name for name, _ in rows(sidecar)] == ["LitThing", "LitThing"]


# Equal layers of an object that is no module.

HELD_BY: dict[str, Callable[[list[Any]], Any]] = {
    "object": Stack,
    "slotted object": Slotted,
    "list": lambda layers: layers,
    "dict": lambda layers: dict(enumerate(layers)),
    "list of lists": lambda layers: [layers[start : start + 4] for start in range(0, len(layers), 4)],
    "lists in an object": lambda layers: Stack([layers[:100], layers[100:]]),
    "objects in a list": lambda layers: [Stack([layer]) for layer in layers],
    "attributes of an object": lambda layers: SimpleNamespace(**{f"layer{n}": layer for n, layer in enumerate(layers)}),
}


@pytest.mark.parametrize("hold", HELD_BY.values(), ids=HELD_BY.keys())
def test_equal_layers_of_one_object_are_one_row_that_unfolds(hold: Callable[[list[Any]], Any]) -> None:
    with attached() as sidecar:
        engine = hold([nn.Linear(64, 64) for _ in range(200)])
        (found,) = sidecar.models()
        assert (found.name, found.class_name) == ("Linear × 200", "Linear × 200")
        assert found.resident_bytes == 200 * 65 * 64 * FLOAT
        assert found.tree is not None
        assert found.tree.names == ("", *map(str, range(200)))
        assert found.tree.depths == (0, *[1] * 200)
        assert found.parameters == 200 * 65 * 64
        assert engine is not None


def test_equal_blocks_stand_together_and_other_layers_of_the_object_by_themselves() -> None:
    with attached() as sidecar:
        engine = SimpleNamespace(embed=nn.Embedding(1000, 64), blocks=blocks(12), head=nn.Linear(64, 1000))
        assert sorted(name for name, _ in rows(sidecar)) == ["Block × 12", "Embedding", "Linear"]
        assert engine is not None


def test_equal_layers_of_two_objects_are_two_rows() -> None:
    with attached() as sidecar:
        engines = Stack([nn.Linear(64, 64) for _ in range(20)]), Stack([nn.Linear(64, 64) for _ in range(30)])
        kept = [weakref.ref(engine) for engine in engines]
        first, second = engines
        del engines
        assert sorted(name for name, _ in rows(sidecar)) == ["Linear × 20", "Linear × 30"]
        assert first is not second
        assert kept


def test_equal_models_in_one_list_stay_rows_of_their_own() -> None:
    with attached() as sidecar:
        fine_tunes = [Backbone(2) for _ in range(10)]
        shallow = [nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(8, 8) for _ in range(4))}) for _ in range(10)]
        assert [size["cpu"] for _, size in rows(sidecar)] == [distinct_bytes(model) for model in [*fine_tunes, *shallow]]


def test_equal_modules_that_lie_apart_stay_rows_of_their_own() -> None:
    with attached() as sidecar:
        one, two, three, four = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        five, six, seven, eight = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        assert len(rows(sidecar)) == 8
        assert len({id(module) for module in (one, two, three, four, five, six, seven, eight)}) == 8


def test_a_module_that_nobody_told_of_is_found_by_its_layers() -> None:
    class Untold(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = Stack([nn.Linear(64, 64) for _ in range(20)])

    with attached() as sidecar:
        model = Untold()
        assert rows(sidecar) == [("Untold", {"cpu": 20 * 65 * 64 * FLOAT})]
        assert model is not None


def test_who_holds_equal_modules_is_searched_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []
    search = gc.get_referrers

    def counted(*of: Any) -> list[Any]:
        searches.append(len(of))
        return search(*of)

    monkeypatch.setattr("gpumodels.models.equal_roots.gc.get_referrers", counted)
    now = [0.0]
    with attached() as sidecar:
        sidecar.scanner._equal._clock = lambda: now[0]
        engine = Stack([nn.Linear(64, 64) for _ in range(200)])
        (before,) = sidecar.scan()
        asked = len(searches)
        assert 0 < asked <= 4
        other = Backbone()
        assert before in sidecar.scan()
        assert len(searches) == asked
        sidecar.scanner._equal._not_before = 1.0
        engine.layers.append(nn.Linear(64, 64))
        assert sorted(name for name, _ in rows(sidecar)) == ["Backbone", "Linear", "Linear × 200"]
        now[0] = 2.0
        assert sorted(name for name, _ in rows(sidecar)) == ["Backbone", "Linear × 201"]
        assert other is not None


def test_layers_that_stand_together_are_freed_at_once() -> None:
    with attached() as sidecar:
        engine = Stack([nn.Linear(64, 64) for _ in range(20)])
        watched = weakref.ref(engine.layers[3])
        assert len(rows(sidecar)) == 1
        del engine.layers[3]
        assert watched() is None
        assert rows(sidecar) == [("Linear × 19", {"cpu": 19 * 65 * 64 * FLOAT})]
        del engine
        assert rows(sidecar) == []
