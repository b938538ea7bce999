"""Models of every shape: tensors outside torch's own tables are found, and unreadable ones hide no model."""

from __future__ import annotations

import copy
import gc
import math
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from modules import Backbone, Block, attached, distinct_bytes, rows, the_only

FLOAT = 4
BLOCK_BYTES = distinct_bytes(Block())
WIDTH = 256


Pair = namedtuple("Pair", ["first", "rest"])

# Tensors whose storage can't be read.

TORCH: Any = torch
"""torch as Any, for functions of it that have no types."""
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
    """Bytes of the indices and values of a sparse tensor."""
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


def test_a_partitioned_parameter_counts_the_bytes_that_are_here_and_all_its_parameters() -> None:
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


def a_class_of(package: str, name: str, *bases: type) -> Any:
    """An empty class of this name that says it is from this package."""
    return type(name, bases, {"__module__": f"{package}.runtime"})


def partitioned(model: nn.Module) -> int:
    """Leave of every parameter what ZeRO-3 leaves: half of its values, in an attribute. Returns their bytes."""
    local = 0
    for parameter in model.parameters():
        weight: Any = parameter
        whole = weight.data
        weight.ds_shape, weight.ds_numel = whole.shape, whole.numel()
        weight.ds_tensor = whole.flatten()[: whole.numel() // 2].clone()
        weight.data = torch.empty(0)
        local += weight.ds_tensor.nbytes
    return local


def test_what_zero_keeps_for_training_is_no_part_of_the_model_that_its_engine_runs() -> None:
    with attached() as sidecar:
        model = Backbone(2, 64)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        local = partitioned(model)
        optimizer = a_class_of("deepspeed", "DeepSpeedZeroOptimizer_Stage3", object)()
        optimizer.fp32_partitioned_groups_flat = [torch.zeros(5000)]
        swapper = a_class_of("deepspeed", "AsyncPartitionedParameterSwapper", object)()
        swapper.buffers = torch.zeros(6000)
        mapping = a_class_of("deepspeed", "tensor_fragment", object)()
        mapping.hp_fragment = torch.zeros(7000)
        for parameter in model.parameters():
            weight: Any = parameter
            weight._z3_optimizer, weight.nvme_swapper, weight._hp_mapping = optimizer, swapper, mapping
        engine = a_class_of("deepspeed", "DeepSpeedEngine", nn.Module)()
        engine.module, engine.optimizer, engine.losses = model, optimizer, torch.zeros(8)
        found = the_only(sidecar)
        assert (found.class_name, found.bytes_by_device) == ("Backbone", {"cpu": local})
        assert found.parameters == parameters
        assert sidecar.scan() == [found]
        assert sidecar.failures.count == 0


def test_a_class_that_only_has_the_name_of_an_engine_keeps_its_tensors() -> None:
    with attached() as sidecar:
        engine = a_class_of("mine", "DeepSpeedEngine", nn.Module)()
        engine.module, engine.table = Backbone(1, 64), torch.zeros(1000)
        assert the_only(sidecar).bytes_by_device == {"cpu": distinct_bytes(engine) + 1000 * FLOAT}


@pytest.mark.parametrize("name", ["MixedPrecisionOptimizer", "FP16_Optimizer", "ScheduledOptim"])
def test_an_optimizer_of_any_librarys_own_class_adds_nothing_to_the_module_that_holds_it(name: str) -> None:
    with attached() as sidecar:
        model: Any = Backbone(1, 64)
        model.trainer = a_class_of("megatron", name, object)()
        model.trainer.fp32_copies = [torch.zeros(5000)]
        assert the_only(sidecar).bytes_by_device == {"cpu": distinct_bytes(model)}


class Wrapper(torch.Tensor):
    """Like TransformerEngine's float8 tensors: a wrapper without storage that keeps several tensors in its attributes."""

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
"""Names of the methods of the classes below that were called."""


class Quantized(nn.Parameter):
    """Like diffusers' parameters of GGUF files: holds the bytes as they are in the file."""

    def __new__(cls, data: torch.Tensor, quant_type: int) -> Quantized:
        made: Any = torch.Tensor._make_subclass(cls, data, False)
        made.quant_type = quant_type
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        FOREIGN.append(str(function))
        return super().__torch_function__(function, types, arguments, options or {})  # type: ignore[no-untyped-call]


class Shaped(torch.Tensor):
    """Like ComfyUI-GGUF's tensors: states the shape that it will have when dequantized."""

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


# Memory in dictionaries.

BACKUPS: dict[str, Callable[[torch.Tensor], Any]] = {
    "dict": lambda tensor: {"weight": tensor},
    "dict of dicts": lambda tensor: {"a": {"weight": tensor}},
    "dict of lists": lambda tensor: {"a": [tensor, None, 3]},
    "list of dicts of tuples": lambda tensor: [{"a": (tensor, "cpu")}],
    "named tuples": lambda tensor: {"a": Pair(tensor, False)},
    "ordered dict of objects": lambda tensor: OrderedDict(a=SimpleNamespace(layers=[tensor])),
    "object": lambda tensor: SimpleNamespace(pinned={"weight": tensor}),
}


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


def test_fabrics_and_lightnings_wrappers_are_seen_through() -> None:
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
