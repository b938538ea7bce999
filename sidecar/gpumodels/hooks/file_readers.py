"""Which files the host reads, and what comes out of them: `torch.load`, safetensors, `gguf`, ComfyUI; and what it saves.

Functions that are Python's are observed; whatever of safetensors' maps a file hands the mapped storage to `untyped()`, which is
torch's and Python's, once a file. What reads by none of these is found by its values afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

from gpumodels.observing.observers import Observers
from gpumodels.provenance.files_read import SampledFile, stamp_of
from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.mapped_storages import PATHS, name_of_open, path_of_bytes, path_of_mapped
from gpumodels.provenance.origin_tracker import OriginTracker, absolute
from gpumodels.support.instances import state_of
from gpumodels.support.resident import resident
from gpumodels.support.torch_private import without_modes

MAX_TENSORS: Final = 200_000
MAX_DEPTH: Final = 4
"""Of dictionaries in what `torch.load` gives back: `{"state_dict": {…}}`, `{"optimizer": {"state": {0: {…}}}}`."""


@resident
class FileReaders:
    """Tells the provenance which files are read and what comes out of them."""

    def __init__(self, torch: ModuleType, origin_tracker: OriginTracker, module_found: Callable[[Any], object]) -> None:
        """`module_found` is given each module that comes out of a file."""
        self._torch = torch
        self._origin_tracker = origin_tracker
        self._module_found = module_found
        self._without_modes = without_modes(torch)

    def observe(self, observers: Observers) -> None:
        """Begin with torch's own."""
        observers.observe(self._torch.load, "noting what torch.load read", returned=self._torch_loaded)
        observers.observe(self._torch.save, "noting what torch.save writes", started=self._torch_saves)
        untyped = getattr(getattr(self._torch.storage, "_StorageBase", None), "untyped", None)
        observers.observe(untyped, "remembering a mapped file", started=self._storage_made)

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """Modules whose readers are to be observed when they are there, each with what does it."""

        def safetensors_torch(module: ModuleType) -> None:
            observers.observe(module.load_file, "noting a safetensors file", started=self._safetensors_read)
            observers.observe(module.load, "looking for the file that bytes are from", started=self._bytes_read)
            observers.observe(module.save_file, "noting what safetensors writes", started=self._safetensors_saves)
            observers.observe(module.save, "noting what safetensors writes", started=self._safetensors_saves)

        def safetensors_numpy(module: ModuleType) -> None:
            observers.observe(module.load_file, "noting a safetensors file", started=self._safetensors_read)

        def gguf(module: ModuleType) -> None:
            observers.observe(module.GGUFReader.__init__, "noting a GGUF file", returned=self._gguf_read)

        def comfy(module: ModuleType) -> None:
            observers.observe(module.load_torch_file, "noting what ComfyUI read", returned=self._comfy_read)

        return {
            "safetensors.torch": safetensors_torch,
            "safetensors.numpy": safetensors_numpy,
            "gguf.gguf_reader": gguf,
            "comfy.utils": comfy,
        }

    def _torch_loaded(self, frame: FrameType, result: Any) -> None:
        """Pickles and zip files of pickles: every tensor that comes out is known to be from the file."""
        path = _path_of(frame.f_locals["f"])
        if path is None or not self._origin_tracker.active:
            return
        sampler = self._origin_tracker.sampler
        samples: dict[str, RawSample] = {}
        stamp = stamp_of(path)
        with self._without_modes():
            for key, tensor in _tensors_in(result, self._torch, self._module_found):
                self._origin_tracker.note_read(tensor, path, stamp)
                sample = sampler.take(tensor)
                if sample is not None:
                    samples[key if key not in samples else f"{len(samples)}.{key}"] = sample
        self._origin_tracker.files_read.add(path, SampledFile(samples))

    def _torch_saves(self, frame: FrameType) -> None:
        self._note_saved(frame.f_locals["obj"])

    def _safetensors_saves(self, frame: FrameType) -> None:
        self._note_saved(frame.f_locals["tensors"])

    def _note_saved(self, saved: Any) -> None:
        with self._without_modes():
            samples = (self._origin_tracker.sampler.take(tensor) for _, tensor in _tensors_in(saved, self._torch))
            self._origin_tracker.saved.note(sample for sample in samples if sample is not None)

    def _storage_made(self, frame: FrameType) -> None:
        """safetensors calls it on what it has just mapped; else nearly nobody does."""
        storage = frame.f_locals["self"]
        if not self._origin_tracker.active or storage.device.type != "cpu":
            return
        path = path_of_mapped(storage.data_ptr(), storage.nbytes(), frame.f_back)
        if path is not None:
            self._origin_tracker.note_mapped(storage, path)

    def _safetensors_read(self, frame: FrameType) -> None:
        """It may read without mapping anything: `backend="pread"`, and numpy's flavour."""
        if self._origin_tracker.active:
            self._origin_tracker.files_read.add(absolute(frame.f_locals["filename"]))

    def _bytes_read(self, frame: FrameType) -> None:
        """`safetensors.torch.load(bytes)`: whoever read the bytes often has the file's name still."""
        if self._origin_tracker.active:
            path = path_of_bytes(frame.f_locals["data"], frame.f_back)
            if path is not None:
                self._origin_tracker.files_read.add(path)

    def _gguf_read(self, frame: FrameType, _result: Any) -> None:
        """`GGUFReader(path)`: it maps the file with numpy, and what leaves it are copies."""
        if self._origin_tracker.active:
            arguments = frame.f_locals
            self._origin_tracker.files_read.add(absolute(arguments["path"]), SampledFile(_gguf_samples(arguments["self"])))

    def _comfy_read(self, frame: FrameType, result: Any) -> None:
        """ComfyUI's reader of every model file: with `--disable-mmap` it gives copies of what it mapped."""
        path = _path_of(frame.f_locals["ckpt"])
        if path is None or not self._origin_tracker.active:
            return
        state_dict, stamp = result[0] if type(result) is tuple else result, stamp_of(path)
        with self._without_modes():
            for _, tensor in _tensors_in(state_dict, self._torch):
                self._origin_tracker.note_read(tensor, path, stamp)


def _path_of(file: Any) -> str | None:
    """Of what `torch.load` takes: a path, or an open file that has one."""
    if type(file) is str or type(file) in PATHS:
        return absolute(file)
    name = name_of_open(file)
    return absolute(name) if name is not None and Path(name).is_file() else None


def _tensors_in(
    result: Any, torch: ModuleType, module_found: Callable[[Any], object] = id, prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, Any]]:
    """Tensors with their keys, from dictionaries a few levels deep and from whole modules; `module_found` is given these."""
    bases = type(result).__mro__
    if torch.Tensor in bases:
        yield prefix, result
    elif torch.nn.Module in bases:
        module_found(result)
        state = state_of(result)
        for table in (state.get("_parameters"), state.get("_buffers")):
            for name, tensor in [*table.items()] if type(table) is dict else ():
                if tensor is not None:
                    yield f"{prefix}{name}", tensor
        children = state.get("_modules")
        for name, child in [*children.items()] if type(children) is dict else ():
            if child is not None:
                yield from _tensors_in(child, torch, module_found, f"{prefix}{name}.", depth)
    elif dict in bases and depth < MAX_DEPTH:
        for key, value in list(dict.items(result))[:MAX_TENSORS]:
            if type(key) in (str, int):
                yield from _tensors_in(value, torch, module_found, str(key), depth + 1)


def _gguf_samples(reader: Any) -> dict[str, RawSample]:
    """Raw blocks, as diffusers keeps them; shapes are the file's own, innermost dimension last."""
    samples: dict[str, RawSample] = {}
    for tensor in reader.tensors[:MAX_TENSORS]:
        data = tensor.data.reshape(-1)[:16]
        shape = tuple(int(length) for length in tensor.data.shape)
        samples[str(tensor.name)] = RawSample(str(data.dtype), shape, data.tobytes())
    return samples
