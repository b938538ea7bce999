"""Which file a tensor's values came from: file mappings seen as torch makes them, carried on through loads, moves and casts.

What is remembered about the host's tensors is kept in a weak side table; an attribute on them would end up in the host's
own checkpoints.
"""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from gpumodels.failures import Failures
from gpumodels.weak_table import WeakTable

if TYPE_CHECKING:
    from torch import Tensor, nn

MODEL_SUFFIXES: Final = (".safetensors", ".sft", ".gguf", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where values came from, and how that is known."""

    path: str
    source: str
    """`mapped file` or `state dict`."""


@dataclass(frozen=True, slots=True)
class _Mapping:
    """One stretch of memory that shows a file."""

    start: int
    end: int
    path: str
    gone: Callable[[], bool]
    """Whether the storage that made it was freed, so that the addresses may be anybody's now."""


class Provenance:
    """Written to by wrapped functions in the host's threads, read by the scan."""

    def __init__(self, torch: ModuleType, failures: Failures) -> None:
        self._torch = torch
        self._failures = failures
        self._mappings: list[_Mapping] = []
        self._kernel_mappings: list[_Mapping] = []
        self._origins: WeakTable[Origin] = WeakTable()
        self._plain_types = (torch.Tensor, torch.nn.Parameter)
        self.active = True
        self.version = 0
        """Goes up when values in unchanged tensors came from somewhere new: what was read of them before is outdated."""

    # What the wrapped functions do.

    def around_from_file(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`UntypedStorage.from_file`: every safetensors file that torch loads, and `torch.load(mmap=True)`, come by here."""

        def from_file(*arguments: Any, **options: Any) -> Any:
            storage = original(*arguments, **options)
            if self.active:
                with self._failures.guard("remembering a mapped file"):
                    self._remember_mapping(storage, arguments[0] if arguments else options["filename"])
            return storage

        return from_file

    def around_load_state_dict(self, original: Callable[..., Any], touched: Callable[[], None]) -> Callable[..., Any]:
        """`Module.load_state_dict`: the values are copied, so where they came from is looked up before and noted after."""

        def load_state_dict(module: nn.Module, state_dict: Mapping[str, Any], *arguments: Any, **options: Any) -> Any:
            origins: dict[str, Origin] = {}
            if self.active:
                with self._failures.guard("reading a state dict's origins"):
                    origins = self._origins_in(state_dict)
            result = original(module, state_dict, *arguments, **options)
            if self.active:
                with self._failures.guard("noting a state dict's origins"):
                    self._note_loaded(module, origins)
                    self.version += 1
                touched()
            return result

        return load_state_dict

    def around_apply(self, original: Callable[..., Any], touched: Callable[[], None]) -> Callable[..., Any]:
        """`Module._apply`, which `.to()`, `.cuda()` and `.half()` go through: the values move, the mapping stays behind."""

        def _apply(module: nn.Module, *arguments: Any, **options: Any) -> Any:
            if self.active:
                with self._failures.guard("noting origins before a move"):
                    for tensors in (module.__dict__["_parameters"], module.__dict__["_buffers"]):
                        for tensor in tensors.values():
                            if tensor is not None:
                                self.origin_of(tensor)
                touched()
            return original(module, *arguments, **options)

        return _apply

    # What the scan asks.

    def origin_of(self, tensor: Tensor) -> Origin | None:
        """Where the tensor's values came from; found by address where that still shows, and remembered from then on."""
        known = self._origins.get(tensor)
        if known is not None:
            return known
        if type(tensor) not in self._plain_types or tensor.device.type != "cpu":
            return None
        mapped = self._mapping_at(tensor)
        if mapped is None:
            return None
        found = Origin(mapped, "mapped file")
        self._origins.put(tensor, found)
        return found

    def read_kernel_mappings(self) -> None:
        """Learn from the kernel which files are mapped right now: what was loaded before the sidecar started."""
        if not sys.platform.startswith("linux"):
            return
        found: list[_Mapping] = []
        for line in Path("/proc/self/maps").read_bytes().splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].endswith(_SUFFIX_BYTES):
                start, end = (int(address, 16) for address in fields[0].split(b"-"))
                found.append(_Mapping(start, end, os.fsdecode(fields[5]), _never))
        self._kernel_mappings = found

    def forget_kernel_mappings(self) -> None:
        """The kernel's answer holds for the moment only: addresses are reused."""
        self._kernel_mappings = []

    # How it is done.

    def _remember_mapping(self, storage: Any, filename: Any) -> None:
        path = os.path.abspath(os.fsdecode(filename))  # noqa: PTH100 — the user's own name for it: symlinks stay
        from torch.multiprocessing.reductions import StorageWeakRef

        expired: Callable[[], bool] = StorageWeakRef(storage).expired  # type: ignore[no-untyped-call]
        start = storage.data_ptr()
        kept = [mapping for mapping in self._mappings if not mapping.gone()]
        kept.append(_Mapping(start, start + storage.nbytes(), path, expired))
        kept.sort(key=lambda mapping: mapping.start)
        self._mappings = kept  # replaced whole: a reader in another thread sees the old list or the new one

    def _mapping_at(self, tensor: Tensor) -> str | None:
        for mappings in (self._mappings, self._kernel_mappings):
            if not mappings:
                continue
            pointer = tensor.untyped_storage().data_ptr()
            position = bisect_right(mappings, pointer, key=lambda mapping: mapping.start) - 1
            if position >= 0 and pointer < mappings[position].end and not mappings[position].gone():
                return mappings[position].path
        return None

    def _origins_in(self, state_dict: Mapping[str, Any]) -> dict[str, Origin]:
        if not isinstance(state_dict, dict) or not (self._mappings or len(self._origins)):
            return {}
        found: dict[str, Origin] = {}
        for key, tensor in dict.items(state_dict):
            if isinstance(tensor, self._torch.Tensor) and (origin := self.origin_of(tensor)) is not None:
                found[key] = Origin(origin.path, "state dict")
        return found

    def _note_loaded(self, module: nn.Module, origins: Mapping[str, Origin]) -> None:
        for key, origin in origins.items():
            *path, name = key.split(".")
            owner: Any = module
            for part in path:
                owner = owner.__dict__["_modules"].get(part)
                if owner is None:
                    break
            if owner is None:
                continue
            tensor = owner.__dict__["_parameters"].get(name)
            if tensor is None:
                tensor = owner.__dict__["_buffers"].get(name)
            if tensor is not None and self.origin_of(tensor) != origin:
                mapped = self._mapping_at(tensor) if type(tensor) in self._plain_types else None
                self._origins.put(tensor, Origin(mapped, "mapped file") if mapped else origin)


_SUFFIX_BYTES: Final = tuple(suffix.encode() for suffix in MODEL_SUFFIXES)


def _never() -> bool:
    return False
