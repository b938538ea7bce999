"""Notes which files the host reads with `torch.load`, safetensors, `gguf` and ComfyUI, which tensors result, and what it saves.

Only functions written in Python can be observed. All of safetensors' functions that map a file pass the mapped storage to torch's
`untyped()`, once per file, which is one. Files read in other ways are found by comparing values afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

from gpumodels.observing.observers import Observers
from gpumodels.provenance.files_read import SampledFile, stamp_of
from gpumodels.provenance.host_samples import RawSample
from gpumodels.provenance.mapped_storages import PATH_TYPES, name_of_open, names_held_by, names_in, path_of_bytes, path_of_mapped
from gpumodels.provenance.origin_tracker import OriginTracker, absolute
from gpumodels.provenance.torch_archives import LoadedTensor, file_with
from gpumodels.support.failures import Failures
from gpumodels.support.instances import state_of
from gpumodels.support.module_tables import entries_of, tables_of
from gpumodels.support.never_pickled import never_pickled
from gpumodels.support.torch_private import without_modes
from gpumodels.tensors.script_modules import ScriptModules

SMALLEST_MODEL_BYTES: Final = 64 * 1024
"""Where less is loaded from bytes, no file is searched for: a process may load small things all the time."""
MAX_TENSORS: Final = 200_000
MAX_DEPTH: Final = 4
"""How deep dictionaries in the result of `torch.load` are searched: `{"optimizer": {"state": {0: {…}}}}`."""


@never_pickled
class FileReaders:
    """Reports to the provenance which files are read, and which tensors are read from them."""

    def __init__(
        self, torch: ModuleType, origin_tracker: OriginTracker, module_found: Callable[[Any], object], failures: Failures
    ) -> None:
        """`module_found`: called with each module that is unpickled from a file."""
        self._torch = torch
        self._scripts = ScriptModules(torch, failures)
        self._origin_tracker = origin_tracker
        self._module_found = module_found
        self._without_modes = without_modes(torch)

    def observe(self, observers: Observers) -> None:
        """Begin to observe torch's own functions."""
        observers.observe(self._torch.load, "noting what torch.load read", returned=self._torch_loaded)
        observers.observe(self._torch.jit.load, "noting what torch.jit.load read", returned=self._torch_loaded)
        observers.observe(self._torch.jit.save, "noting what torch.jit.save writes", started=self._script_saves)
        observers.observe(self._torch.save, "noting what torch.save writes", started=self._torch_saves)
        untyped = getattr(getattr(self._torch.storage, "_StorageBase", None), "untyped", None)
        observers.observe(untyped, "remembering a mapped file", started=self._storage_made)

    def awaited(self, observers: Observers) -> Mapping[str, Callable[[ModuleType], None]]:
        """By module name, functions that begin to observe the module's readers, to be called once it is imported."""

        def safetensors_torch(module: ModuleType) -> None:
            observers.observe(
                module.load_file, "noting a safetensors file", started=self._safetensors_read, returned=self._safetensors_loaded
            )
            observers.observe(module.load, "finding the file that bytes were read from", started=self._bytes_read)
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
        """`torch.load` or `torch.jit.load` returns: every tensor in its result was read from the file."""
        if not self._origin_tracker.active:
            return
        file = frame.f_locals["f"]
        path = _path_of(file)
        sampler = self._origin_tracker.sampler
        samples: dict[str, RawSample] = {}
        with self._without_modes():
            tensors = list(self._tensors_in(result, self._module_found))
            path = path or self._path_by_values(file, frame.f_back, [tensor for _, tensor in tensors])
            if path is None:
                return
            stamp = stamp_of(path)
            for key, tensor in tensors:
                self._origin_tracker.note_read(tensor, path, stamp)
                sample = sampler.take(tensor)
                if sample is None and type(tensor) in self._origin_tracker.tensors.plain_types and not tensor.is_cpu:
                    sample = RawSample(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), b"")  # values out of reach
                if sample is not None:
                    samples[key if key not in samples else f"{len(samples)}.{key}"] = sample
        self._origin_tracker.files_read.add(path, SampledFile(samples))

    def _path_by_values(self, file: Any, caller: FrameType | None, tensors: Sequence[Any]) -> str | None:
        """The path of the file that tensors are from which were loaded from bytes of it, or by an object that reads it."""
        stored = [(tensor, self._origin_tracker.tensors.storage_of(tensor)) for tensor in tensors]
        sizes = [(tensor, storage.nbytes()) for tensor, storage in stored if storage is not None]
        if sum(size for _, size in sizes) < SMALLEST_MODEL_BYTES:
            return None
        loaded = []
        for tensor, size in sizes:
            sample = self._origin_tracker.sampler.take(tensor)
            start = tensor.storage_offset() * tensor.element_size() if sample is not None else 0
            loaded.append(LoadedTensor(size, start, b"" if sample is None else sample.data))
        return file_with(loaded, names_held_by(file), names_in(caller))

    def _torch_saves(self, frame: FrameType) -> None:
        self._note_saved(frame.f_locals["obj"], frame.f_locals["f"])

    def _safetensors_saves(self, frame: FrameType) -> None:
        self._note_saved(frame.f_locals["tensors"], frame.f_locals.get("filename"))

    def _script_saves(self, frame: FrameType) -> None:
        self._note_saved(frame.f_locals["m"], frame.f_locals["f"])

    def _note_saved(self, saved: Any, file: Any) -> None:
        path = _path_of(file)
        with self._without_modes():
            self._origin_tracker.note_saved(path, [tensor for _, tensor in self._tensors_in(saved)])

    def _storage_made(self, frame: FrameType) -> None:
        """`untyped()` is called: by safetensors on a storage that it has just mapped; rarely by anybody else."""
        storage = frame.f_locals["self"]
        if not self._origin_tracker.active or storage.device.type != "cpu":
            return
        path = path_of_mapped(storage.data_ptr(), storage.nbytes(), frame.f_back)
        if path is not None:
            self._origin_tracker.note_mapped(storage, path)

    def _safetensors_read(self, frame: FrameType) -> None:
        """`load_file` is called; it may read without mapping anything: with `backend="pread"`, and in `safetensors.numpy`."""
        if self._origin_tracker.active:
            self._origin_tracker.files_read.add(absolute(frame.f_locals["filename"]))

    def _safetensors_loaded(self, frame: FrameType, result: Any) -> None:
        """`load_file` returns: tensors on an accelerator are copies, which no address leads back to the file."""
        if not self._origin_tracker.active or type(result) is not dict:
            return
        path = absolute(frame.f_locals["filename"])
        with self._without_modes():
            self._origin_tracker.note_copies_read((tensor for _, tensor in self._tensors_in(result)), path)

    def _bytes_read(self, frame: FrameType) -> None:
        """`safetensors.torch.load(bytes)` is called: a caller often still has the path of the file in a variable."""
        if self._origin_tracker.active:
            path = path_of_bytes(frame.f_locals["data"], frame.f_back)
            if path is not None:
                self._origin_tracker.files_read.add(path)

    def _gguf_read(self, frame: FrameType, _result: Any) -> None:
        """`GGUFReader(path)` is constructed: it maps the file with numpy, and the tensors made from it are copies."""
        if self._origin_tracker.active:
            arguments = frame.f_locals
            self._origin_tracker.files_read.add(absolute(arguments["path"]), SampledFile(_gguf_samples(arguments["self"])))

    def _comfy_read(self, frame: FrameType, result: Any) -> None:
        """`load_torch_file` returns, by which ComfyUI reads every model file; with `--disable-mmap`, tensors are copies."""
        path = _path_of(frame.f_locals["ckpt"])
        if path is None or not self._origin_tracker.active:
            return
        state_dict, stamp = result[0] if type(result) is tuple else result, stamp_of(path)
        with self._without_modes():
            for _, tensor in self._tensors_in(state_dict):
                self._origin_tracker.note_read(tensor, path, stamp)

    def _tensors_in(
        self, result: Any, module_found: Callable[[Any], object] = id, prefix: str = "", depth: int = 0
    ) -> Iterator[tuple[str, Any]]:
        """Keys and tensors from dictionaries, and lists of these, up to MAX_DEPTH deep, and from modules.

        Each module is passed to `module_found`.
        """
        bases = type(result).__mro__
        if self._torch.Tensor in bases:
            yield prefix, result
        elif self._torch.nn.Module in bases:
            module_found(result)
            state = state_of(result)
            tables = tables_of(state)
            for table in (tables.parameters, tables.buffers):
                for name, tensor in entries_of(table):
                    yield f"{prefix}{name}", tensor
            if self._scripts.has(type(result)):
                for name, tensor in self._scripts.tensors(state):
                    if self._torch.Tensor in type(tensor).__mro__:
                        yield f"{prefix}{name}", tensor
            for name, child in entries_of(tables.modules):
                yield from self._tensors_in(child, module_found, f"{prefix}{name}.", depth)
        elif dict in bases and depth < MAX_DEPTH:
            for key, value in list(dict.items(result))[:MAX_TENSORS]:
                if type(key) in (str, int):
                    yield from self._tensors_in(value, module_found, str(key), depth + 1)
        elif type(result) in (list, tuple) and result and dict in type(result[0]).__mro__ and depth < MAX_DEPTH:
            for value in result[:MAX_TENSORS]:  # as the networks of one width in a hypernetwork
                yield from self._tensors_in(value, module_found, prefix, depth + 1)


def _path_of(file: Any) -> str | None:
    """The path of the file that was passed to a reader as a path or an open file; None for other file-like objects."""
    if type(file) is str or type(file) in PATH_TYPES:
        return absolute(file)
    name = name_of_open(file)
    return absolute(name) if name is not None and Path(name).is_file() else None


def _gguf_samples(reader: Any) -> dict[str, RawSample]:
    """Samples of the raw blocks, which diffusers keeps unchanged; shapes are the file's, innermost dimension last."""
    samples: dict[str, RawSample] = {}
    for tensor in reader.tensors[:MAX_TENSORS]:
        data = tensor.data.reshape(-1)[:16]
        shape = tuple(int(length) for length in tensor.data.shape)
        samples[str(tensor.name)] = RawSample(str(data.dtype), shape, data.tobytes())
    return samples
