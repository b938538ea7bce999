"""Which storages are another process's memory: what torch.multiprocessing received through CUDA's IPC. Plain data.

Whoever receives a tensor on a GPU notes its storage in `torch.multiprocessing.reductions.shared_cache` under the handle of the
allocation and the place in it; whoever sends one, under the handle alone. The allocator of the process that sent it counts that
memory. Of storages in shared host memory both note the same, so that it isn't known whose they are.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from gpumodels.support.instances import class_attribute, is_a, name_of, state_of

REDUCTIONS: Final = "torch.multiprocessing.reductions"
MOST_STORAGES: Final = 100_000


def imported_storages() -> frozenset[int]:
    """The identities of the storages that are another process's."""
    cache = state_of(sys.modules.get(REDUCTIONS)).get("shared_cache")
    found: set[int] = set()
    for key, ref in list(dict.items(cache))[:MOST_STORAGES] if is_a(cache, dict) else ():
        if type(key) is tuple and len(key) == 2 and type(key[0]) is bytes and type(key[1]) is int:
            identity = _identity_in(ref)
            if identity is not None:
                found.add(identity)
    return frozenset(found)


def _identity_in(ref: Any) -> int | None:
    """The storage's, which its weak reference keeps: as long as that lives, no other storage has it."""
    slot = class_attribute(type(ref), "cdata") if name_of(type(ref)) == "StorageWeakRef" else None
    try:
        identity = slot.__get__(ref) if slot is not None else None
    except AttributeError:
        return None
    return identity if type(identity) is int else None
