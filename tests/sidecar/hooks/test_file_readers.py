"""Which files are read and what comes out of them, by all the readers that hosts use."""

from __future__ import annotations

import copy
import gc
import inspect
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from gpumodels.hooks.file_readers import MAX_DEPTH
from gpumodels.provenance.origin import MAPPED, READ
from loads import a_file, long_ago, the_model
from modules import Attached, Backbone, attached

safetensors = pytest.importorskip("safetensors.torch")
safetensors_numpy = pytest.importorskip("safetensors.numpy")
load_file, save_file = safetensors.load_file, safetensors.save_file
jit: Any = torch.jit
"""As its functions have no types."""


def sources(sidecar: Attached, *tensors: torch.Tensor) -> list[tuple[str, str] | None]:
    """File and source of each, as they are known."""
    known = [sidecar.origin_tracker.origin_of(tensor, tensor.untyped_storage()) for tensor in tensors]
    return [None if origin is None else (origin.path, origin.source) for origin in known]


def test_what_torch_load_reads_is_known_by_its_file(tmp_path: Path) -> None:
    torch.save({"state_dict": Backbone().state_dict(), "step": 3}, tmp_path / "mine_v1.ckpt")
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(torch.load(tmp_path / "mine_v1.ckpt")["state_dict"])
        found = the_model(sidecar)
        assert (found.name, found.name_source, found.confidence) == ("mine_v1", "state dict", 0.95)
        whole = io.BytesIO()
        torch.save(model, whole)
        whole.seek(0)
        torch.load(whole, weights_only=False)
        assert sidecar.failures.count == 0


def through_a_buffer(path: Path) -> Any:
    return torch.load(io.BytesIO(path.read_bytes()))


def through_a_buffer_of_known_bytes(path: Path) -> Any:
    data = bytearray(path.read_bytes())
    return torch.load(io.BytesIO(data))


def through_a_wrapper(path: Path) -> Any:
    with path.open("rb") as file, tempfile._TemporaryFileWrapper(file, "unknown", delete=False) as wrapper:
        del path
        return torch.load(wrapper)


class Wrapper(io.RawIOBase):
    """Reads another file, as progress bars do; its code must be run by nobody but torch."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.wrapped, self.log = file, io.StringIO()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.wrapped.seek(offset, whence)

    def tell(self) -> int:
        return self.wrapped.tell()

    def readinto(self, buffer: Any) -> int:
        return self.wrapped.readinto(buffer)


def through_a_buffered_wrapper(path: Path) -> Any:
    with path.open("rb") as file:
        del path
        return torch.load(io.BufferedReader(Wrapper(file)))


def through_fsspec(path: Path) -> Any:
    """As Lightning reads checkpoints (fsspec 2026.9: `LocalFileOpener`)."""
    opener = pytest.importorskip("fsspec").open(str(path), "rb")
    del path
    with opener as file:
        del opener
        return torch.load(file)


def through_tqdm(path: Path) -> Any:
    with path.open("rb") as file, pytest.importorskip("tqdm").tqdm.wrapattr(file, "read", disable=True) as wrapped:
        del path
        return torch.load(wrapped)


INDIRECT = [
    through_a_buffer,
    through_a_buffer_of_known_bytes,
    through_a_wrapper,
    through_a_buffered_wrapper,
    pytest.param(through_fsspec, marks=pytest.mark.slow),
    pytest.param(through_tqdm, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("read", INDIRECT)
def test_what_torch_load_reads_by_way_of_another_object_is_known_by_its_file(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    path = tmp_path / "mine_v1.ckpt"
    torch.save(Backbone().state_dict(), path)
    with attached() as sidecar:
        model = Backbone()
        model.load_state_dict(read(path))
        found = the_model(sidecar)
        assert (found.name, found.name_source, found.confidence, found.files) == ("mine_v1", "state dict", 0.95, (str(path),))
        assert sidecar.failures.count == 0


def test_bytes_that_are_no_files_are_not_called_by_a_file_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "mine_v1.ckpt"
    torch.save(Backbone().state_dict(), path)
    with attached() as sidecar:
        model, other = Backbone(), io.BytesIO()
        torch.save(Backbone().state_dict(), other)
        other.seek(0)
        with path.open("rb") as file:
            file.read(10)
            model.load_state_dict(torch.load(other))
        found = the_model(sidecar)
        assert (found.class_name, found.confidence, found.files) == ("Backbone", 0.0, ())
        assert found.name == "Backbone"
        assert sidecar.failures.count == 0


def test_a_small_thing_that_is_loaded_from_bytes_is_not_searched_for(tmp_path: Path) -> None:
    path = tmp_path / "mine_v1.ckpt"
    torch.save({"a": torch.randn(64)}, path)
    with attached() as sidecar:
        torch.load(io.BytesIO(path.read_bytes()))
        assert sidecar.origin_tracker.files_read.paths() == []


class Layers(nn.Module):
    """What TorchScript can compile: two linears."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(256, 256), nn.Linear(256, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.first(x))
        return out


TORCHSCRIPT: dict[str, Callable[[], Any]] = {
    "scripted": lambda: jit.script(Layers()),
    "traced": lambda: jit.trace(Layers(), torch.zeros(1, 256)),
    "frozen": lambda: jit.freeze(jit.script(Layers().eval())),
}


def in_torchscript(path: Path, make: Callable[[], Any]) -> Path:
    """A file of such a model, written long ago."""
    jit.save(make(), str(path))
    return long_ago(path)


def from_an_open_file(path: Path) -> Any:
    with path.open("rb") as file:
        return jit.load(file)


WAYS_TO_LOAD_TORCHSCRIPT: dict[str, Callable[[Path], Any]] = {
    "by its path": lambda path: jit.load(str(path)),
    "from an open file": from_an_open_file,
    "from bytes": lambda path: jit.load(io.BytesIO(path.read_bytes())),
    "by torch.load": lambda path: torch.load(path, weights_only=False),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:'torch.load' received a zip file")
@pytest.mark.parametrize("load", WAYS_TO_LOAD_TORCHSCRIPT.values(), ids=WAYS_TO_LOAD_TORCHSCRIPT.keys())
@pytest.mark.parametrize("make", TORCHSCRIPT.values(), ids=TORCHSCRIPT.keys())
def test_torchscript_is_called_by_its_file_and_stays_so_when_it_is_cast(
    make: Callable[[], Any], load: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = in_torchscript(tmp_path / "mine_v1.pt", make)
    with attached() as sidecar:
        model = load(path)
        gc.collect()
        for _ in range(2):
            found = the_model(sidecar)
            assert (found.name, found.class_name, found.name_source, found.confidence) == ("mine_v1", "Layers", "read file", 0.95)
            model.half()
        assert sidecar.failures.count == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_of_several_models_in_torchscript_each_is_called_by_its_own_file(tmp_path: Path) -> None:
    paths = [in_torchscript(tmp_path / f"{name}.pt", make) for name, make in TORCHSCRIPT.items()]
    with attached() as sidecar:
        models = nn.ModuleDict({path.stem: jit.load(str(path)) for path in paths})
        gc.collect()
        assert sorted((found.name, found.class_name) for found in sidecar.models()) == [
            (name, "Layers") for name in sorted(TORCHSCRIPT)
        ]
        assert len(models) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", ["scripted", "traced"])
def test_a_copy_of_a_model_in_torchscript_is_known_by_its_values(form: str, tmp_path: Path) -> None:
    path = in_torchscript(tmp_path / "mine_v1.pt", TORCHSCRIPT[form])
    with attached() as sidecar:
        model = copy.deepcopy(jit.load(str(path)))
        gc.collect()
        found = the_model(sidecar)
        assert (found.name, found.name_source, found.confidence) == ("mine_v1", "values", 0.97)
        assert sidecar.failures.count == 0
        assert model is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_model_that_is_only_saved_in_torchscript_does_not_come_from_that_file(tmp_path: Path) -> None:
    with attached() as sidecar:
        model = jit.script(Layers())
        jit.save(model, str(tmp_path / "mine_v1.pt"))
        read = jit.load(str(tmp_path / "mine_v1.pt"))
        gc.collect()
        assert sorted((found.name, found.confidence) for found in sidecar.models()) == [("Layers", 0.0), ("mine_v1", 0.95)]
        assert read is not None


def test_the_shards_of_a_gguf_file_are_one_model(tmp_path: Path) -> None:
    gguf, numpy = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    state = Backbone().state_dict()
    writer = gguf.GGUFWriter(tmp_path / "my-llm-f32.gguf", "llama", split_max_tensors=5)
    for key, value in state.items():
        writer.add_tensor(key, value.numpy())
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        write()
    paths = [long_ago(path) for path in sorted(tmp_path.iterdir())]
    assert [path.name for path in paths] == [f"my-llm-f32-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    with attached() as sidecar:
        read = {one.name: torch.from_numpy(numpy.array(one.data)) for path in paths for one in gguf.GGUFReader(path).tensors}
        model = Backbone()
        model.load_state_dict({key: read[key].view(value.shape) for key, value in state.items()})
        found = the_model(sidecar)
        assert (found.name, found.name_source, found.confidence) == ("my-llm", "values", 0.97)
        assert found.files == tuple(map(str, paths))


def by_reading_without_a_mapping(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(path, backend="pread")
    return found


def by_numpys_flavour(path: Path) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in safetensors_numpy.load_file(path).items()}


@pytest.mark.parametrize("read", [by_reading_without_a_mapping, by_numpys_flavour])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_file_that_was_read_without_a_mapping_of_torchs_is_known_by_its_values(
    tmp_path: Path, read: Callable[[Path], dict[str, torch.Tensor]], dtype: torch.dtype
) -> None:
    if read is by_reading_without_a_mapping and "backend" not in inspect.signature(load_file).parameters:
        pytest.skip("this safetensors always maps")
    with attached() as sidecar:
        path = a_file(tmp_path / "mine_v1.safetensors")
        model = Backbone().to(dtype)
        model.load_state_dict({key: value.to(dtype) for key, value in read(path).items()})
        found = the_model(sidecar)
        assert (found.name, found.name_source, found.files) == ("mine_v1", "values", (str(path),))


def test_bytes_are_known_by_the_file_that_is_open_meanwhile(tmp_path: Path) -> None:
    with attached() as sidecar:
        path = a_file(tmp_path / "bytes_v1.safetensors")
        model = Backbone()
        with path.open("rb") as file:
            model.load_state_dict(safetensors.load(file.read()))
        assert the_model(sidecar).name == "bytes_v1"


def test_bytes_are_not_taken_for_a_file_that_is_as_long(tmp_path: Path) -> None:
    with attached() as sidecar:
        decoy = a_file(tmp_path / "decoy.safetensors")
        other = a_file(tmp_path / "other.safetensors")
        data = other.read_bytes()
        other.unlink()
        assert len(data) == decoy.stat().st_size
        with decoy.open("rb") as file:
            safetensors.load(data)
            assert sidecar.origin_tracker.files_read.paths() == []
            safetensors.load(decoy.read_bytes())
            assert sidecar.origin_tracker.files_read.paths() == [str(decoy)]
            assert not file.closed


class Comfy(ModuleType):
    """`comfy.utils`, as far as reading goes."""

    def __init__(self) -> None:
        super().__init__("comfy.utils")

        def load_torch_file(ckpt: Any, return_metadata: bool = False) -> Any:
            state = {key: value.clone() for key, value in load_file(ckpt).items()}
            return (state, {}) if return_metadata else state

        self.load_torch_file = load_torch_file


@pytest.mark.parametrize("returns_metadata", [False, True])
def test_what_comfyui_reads_is_known_by_its_file_though_it_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returns_metadata: bool
) -> None:
    comfy = Comfy()
    monkeypatch.setitem(sys.modules, comfy.__name__, comfy)
    path = a_file(tmp_path / "mine.safetensors", nn.Linear(8, 8))
    with attached() as sidecar:
        found = comfy.load_torch_file(path, returns_metadata)
        state = found[0] if returns_metadata else found
        assert sources(sidecar, *state.values()) == [(str(path), READ)] * 2
        assert sidecar.failures.count == 0


def test_a_file_that_is_mapped_is_known_by_the_name_that_the_user_gave_it(tmp_path: Path) -> None:
    link = tmp_path / "my link.safetensors"
    link.symlink_to(a_file(tmp_path / "blob.safetensors", nn.Linear(8, 8)))
    with attached() as sidecar:
        state = load_file(link)
        assert sources(sidecar, *state.values()) == [(str(link), MAPPED)] * 2
        assert str(link) in sidecar.origin_tracker.files_read.paths()
        assert sidecar.failures.count == 0


@pytest.mark.parametrize("open_it", [str, Path, lambda path: Path(path).open("rb")], ids=["text", "path", "open file"])  # noqa: SIM115
def test_torch_load_may_be_given_a_name_or_an_open_file(tmp_path: Path, open_it: Callable[[str], Any]) -> None:
    path = tmp_path / "mine.pt"
    torch.save({"weight": torch.randn(64)}, path)
    given = open_it(str(path))
    with attached() as sidecar:
        state = torch.load(given)
        assert sources(sidecar, state["weight"]) == [(str(path), READ)]
    if hasattr(given, "close"):
        given.close()


def test_what_lies_in_lists_is_known_by_its_file_as_in_hypernetworks(tmp_path: Path) -> None:
    """Which have, by width, a pair of dictionaries."""
    saved: dict[str | int, Any] = {"activation_func": "linear", "layer_structure": [1, 2, 1]}
    saved[512] = tuple({f"linear.{part}.weight": torch.randn(512, 512) for part in (0, 1)} for _ in range(2))
    torch.save(saved, tmp_path / "my_hyper.pt")
    long_ago(tmp_path / "my_hyper.pt")
    with attached() as sidecar:
        loaded = torch.load(tmp_path / "my_hyper.pt")[512]
        pair = nn.ModuleList(nn.Sequential(nn.Linear(512, 512, bias=False), nn.Linear(512, 512, bias=False)) for _ in range(2))
        for network, state in zip(pair, loaded, strict=True):
            for number, layer in enumerate(network.children()):
                layer.load_state_dict({"weight": state[f"linear.{number}.weight"]})
        found = the_model(sidecar)
        assert (found.name, found.name_source, found.confidence) == ("my_hyper", "state dict", 0.95)
        assert sidecar.failures.count == 0


def test_what_is_read_from_memory_is_from_no_file() -> None:
    stream = io.BytesIO()
    torch.save({"weight": torch.randn(64)}, stream)
    stream.seek(0)
    with attached() as sidecar:
        state = torch.load(stream)
        assert sources(sidecar, state["weight"]) == [None]
        assert sidecar.origin_tracker.files_read.paths() == []
        assert sidecar.failures.count == 0


def nested(path: str) -> Any:
    """A tensor in dictionaries."""
    key, _, rest = path.partition(".")
    return {key: nested(rest)} if key else torch.randn(64)


def innermost(nest: Any) -> torch.Tensor:
    while isinstance(nest, dict):
        (nest,) = nest.values()
    found: torch.Tensor = nest
    return found


def test_tensors_are_found_some_dictionaries_deep_and_in_whole_modules(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    deep, too_deep = "level." * (MAX_DEPTH - 1), "level." * MAX_DEPTH
    models = {"ema": nn.Linear(8, 8), "model": nn.Linear(8, 8)}
    torch.save({**models, "one": nested(deep), "other": nested(too_deep), "list": [torch.randn(64)]}, path)
    with attached() as sidecar:
        read = torch.load(path, weights_only=False)
        found, lost = innermost(read["one"]), innermost(read["other"])
        assert sources(sidecar, read["ema"].weight, read["ema"].bias, found) == [(str(path), READ)] * 3
        assert sources(sidecar, lost, *read["list"]) == [None, None]
        assert {id(read["ema"]), id(read["model"])} == set(sidecar.registry.take_changes().touched)


def test_values_that_are_saved_are_remembered_by_every_way_of_saving(tmp_path: Path) -> None:
    with attached() as sidecar:
        tracker = sidecar.origin_tracker
        for save in (
            lambda state: torch.save({"state_dict": state}, tmp_path / "a.pt"),
            lambda state: save_file(state, tmp_path / "a.safetensors"),
            safetensors.save,
        ):
            tensor = torch.randn(64)
            sample = tracker.sampler.take(tensor)
            assert sample is not None
            assert tracker.saved.first_ns([sample]) is None
            save({"weight": tensor})
            assert tracker.saved.first_ns([sample]) is not None


def test_once_closed_nothing_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    torch.save({"weight": torch.randn(64)}, path)
    mapped = a_file(tmp_path / "mine.safetensors", nn.Linear(8, 8))
    with attached() as sidecar:
        sidecar.origin_tracker.close()
        tensors = [*torch.load(path).values(), *load_file(mapped).values()]
        safetensors.load(mapped.read_bytes())
        assert sources(sidecar, *tensors) == [None] * 3
        assert sidecar.origin_tracker.files_read.paths() == []


def test_tensors_of_a_reader_that_is_given_subclasses_run_no_code_of_theirs(tmp_path: Path) -> None:
    ran: list[str] = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
            ran.append(str(function))
            return function(*arguments, **(options or {}))

    path = tmp_path / "mine.pt"
    torch.save({"weight": torch.randn(64)}, path)

    def loaded() -> list[str]:
        ran.clear()
        with Mode():
            torch.load(path)
            torch.save({"weight": torch.zeros(64)}, tmp_path / "other.pt")
        return list(ran)

    plain = loaded()
    with attached():
        assert loaded() == plain


def test_what_a_reader_puts_out_of_reach_is_known_by_its_file(tmp_path: Path) -> None:
    path = a_file(tmp_path / "mine_v1.safetensors")
    with attached() as sidecar:
        here = load_file(path)["blocks.0.q.weight"].clone()
        there = here.to("meta")
        sidecar.origin_tracker.note_copies_read([here, there], str(path))
        assert sources(sidecar, here, there) == [None, (str(path), READ)]


def test_names_and_shapes_are_known_of_what_torch_load_puts_out_of_reach(tmp_path: Path) -> None:
    torch.save(Backbone().state_dict(), tmp_path / "mine_v1.pt")
    with attached() as sidecar:
        torch.load(tmp_path / "mine_v1.pt", map_location="meta")
        (file,) = sidecar.origin_tracker.files_read.of([str(tmp_path / "mine_v1.pt")])
        assert file.values is not None
        assert file.values.tensors["blocks.0.q.weight"] == ("float32", (256, 256))
        assert file.values.read("blocks.0.q.weight", 0, 16) == b""
