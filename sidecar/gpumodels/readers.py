"""Readers that map nothing: what `torch.load`, `safetensors` and `gguf` read by other ways, and from which file; and savers.

Wrapped where the work is done, so that it doesn't matter who imported the reader when: functions that a module looks up in
its own globals, and methods of classes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from gpumodels.failures import Failures
from gpumodels.files_read import SampledFile, stamp_of
from gpumodels.provenance import Provenance, absolute
from gpumodels.sampling import RawSample
from gpumodels.saves import Saves
from gpumodels.wraps import Wraps

MAX_TENSORS: Final = 200_000
MAX_DEPTH: Final = 4
"""Of dictionaries in what `torch.load` gives back: `{"state_dict": {…}}`, `{"optimizer": {"state": {0: {…}}}}`."""


class Readers:
    """Tells the provenance which files are read and what comes out of them."""

    def __init__(self, torch: ModuleType, provenance: Provenance, failures: Failures) -> None:
        self._torch = torch
        self._provenance = provenance
        self._failures = failures
        self._wraps = Wraps()
        with failures.guard("wrapping torch.load"):
            self._wraps.wrap(torch, "load", self._around_torch_load)
        self._saves = Saves(provenance.sampler, provenance.saved, failures)
        self._saves.wrap_torch(self._wraps, torch, lambda saved: _tensors_in(saved, torch))

    @property
    def arrivals(self) -> Mapping[str, Callable[[ModuleType], None]]:
        """Modules to be wrapped when they are there, each with what wraps it."""
        return {
            "safetensors.torch": self._safetensors_arrived,
            "safetensors.numpy": self._safetensors_numpy_arrived,
            "gguf.gguf_reader": self._gguf_arrived,
            "comfy.utils": self._comfy_arrived,
        }

    def remove(self) -> None:
        """Leave all as it was."""
        with self._failures.guard("unwrapping readers"):
            self._wraps.unwrap_all()

    def _safetensors_arrived(self, module: ModuleType) -> None:
        with self._failures.guard("wrapping safetensors.torch"):
            self._wraps.wrap(module, "deserialize", self._around_deserialize)
            self._wraps.wrap(module, "safe_open", self._around_safe_open)
        self._saves.wrap_safetensors(self._wraps, module)

    def _safetensors_numpy_arrived(self, module: ModuleType) -> None:
        with self._failures.guard("wrapping safetensors.numpy"):
            self._wraps.wrap(module, "safe_open", self._around_safe_open)

    def _gguf_arrived(self, module: ModuleType) -> None:
        with self._failures.guard("wrapping GGUFReader"):
            self._wraps.wrap(module.GGUFReader, "__init__", self._around_gguf)

    def _comfy_arrived(self, module: ModuleType) -> None:
        with self._failures.guard("wrapping comfy.utils"):
            self._wraps.wrap(module, "load_torch_file", self._around_comfy_load)

    def _around_torch_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Pickles and zip files of pickles: every tensor that comes out is known to be from the file."""

        def load(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            if self._provenance.active:
                with self._failures.guard("noting what torch.load read"):
                    path = _path_of(arguments[0] if arguments else options.get("f"))
                    if path is not None:
                        self._note_read(result, path)
            return result

        return load

    def _note_read(self, result: Any, path: str) -> None:
        sampler = self._provenance.sampler
        samples: dict[str, RawSample] = {}
        stamp = stamp_of(path)
        for key, tensor in _tensors_in(result, self._torch):
            self._provenance.note_read(tensor, path, stamp)
            sample = sampler.take(tensor)
            if sample is not None:
                samples[key if key not in samples else f"{len(samples)}.{key}"] = sample
        self._provenance.files_read.add(path, SampledFile(samples))

    def _around_deserialize(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`safetensors.torch.load(bytes)`: whoever read the bytes often has the file open still."""

        def deserialize(data: Any, *arguments: Any, **options: Any) -> Any:
            if self._provenance.active:
                with self._failures.guard("looking for the file that bytes are from"):
                    for path in _open_files_of_size(len(data)):
                        self._provenance.files_read.add(path)
            return original(data, *arguments, **options)

        return deserialize

    def _around_comfy_load(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """ComfyUI's reader of every model file: with `--disable-mmap` it gives copies of what it mapped."""

        def load_torch_file(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            if self._provenance.active:
                with self._failures.guard("noting what ComfyUI read"):
                    path = _path_of(arguments[0] if arguments else options.get("ckpt"))
                    if path is not None:
                        state_dict, stamp = result[0] if isinstance(result, tuple) else result, stamp_of(path)
                        for _, tensor in _tensors_in(state_dict, self._torch):
                            self._provenance.note_copied(tensor, path, stamp)
            return result

        return load_torch_file

    def _around_safe_open(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`load_file`, as torch's and numpy's flavour look it up: it may read without mapping anything (`backend="pread"`)."""

        def safe_open(*arguments: Any, **options: Any) -> Any:
            opened = original(*arguments, **options)
            if self._provenance.active:
                with self._failures.guard("noting a safetensors file"):
                    self._provenance.files_read.add(absolute(arguments[0] if arguments else options["filename"]))
            return opened

        return safe_open

    def _around_gguf(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`GGUFReader(path)`: it maps the file with numpy, and what leaves it are copies."""

        def read(reader: Any, path: Any, *arguments: Any, **options: Any) -> None:
            original(reader, path, *arguments, **options)
            if self._provenance.active:
                with self._failures.guard("noting a GGUF file"):
                    self._provenance.files_read.add(absolute(path), SampledFile(_gguf_samples(reader)))

        return read


def _path_of(file: Any) -> str | None:
    """Of what `torch.load` takes: a path, or an open file that has one."""
    if isinstance(file, (str, os.PathLike)):
        return absolute(file)
    name = getattr(file, "name", None)
    return absolute(name) if isinstance(name, str) and Path(name).is_file() else None


def _tensors_in(result: Any, torch: ModuleType, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Tensors with their keys, from dictionaries a few levels deep and from whole modules."""
    if isinstance(result, torch.Tensor):
        yield prefix, result
    elif isinstance(result, torch.nn.Module):
        for table in ("_parameters", "_buffers"):
            for name, tensor in result.__dict__[table].items():
                if tensor is not None:
                    yield f"{prefix}{name}", tensor
        for name, child in result.__dict__["_modules"].items():
            if child is not None:
                yield from _tensors_in(child, torch, f"{prefix}{name}.", depth)
    elif isinstance(result, dict) and depth < MAX_DEPTH:
        for key, value in list(dict.items(result))[:MAX_TENSORS]:
            yield from _tensors_in(value, torch, str(key), depth + 1)


def _open_files_of_size(size: int) -> Iterator[str]:
    """Regular files that this process has open and that are as long."""
    with contextlib.suppress(OSError):  # no Linux
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                status = os.stat(int(descriptor))
                if stat.S_ISREG(status.st_mode) and status.st_size == size:
                    yield str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _gguf_samples(reader: Any) -> dict[str, RawSample]:
    """Raw blocks, as diffusers keeps them; shapes are the file's own, innermost dimension last."""
    samples: dict[str, RawSample] = {}
    for tensor in reader.tensors[:MAX_TENSORS]:
        data = tensor.data.reshape(-1)[:16]
        shape = tuple(int(length) for length in tensor.data.shape)
        samples[str(tensor.name)] = RawSample(str(data.dtype), shape, data.tobytes())
    return samples
