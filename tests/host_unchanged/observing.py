"""What a host can observe, as values that JSON can carry and that are the same on every run."""

from __future__ import annotations

import gc
import hashlib
import inspect
import os
import pickle
import re
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from host_unchanged.table import Mode

SIDECAR_THREAD: Final = "gpumodels"
PATIENCE_SECONDS: Final = 1.0
"""How long a difference must last to count, since another thread may hold things for a moment."""
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{4,}|(?<![\w.])\d{8,}(?![\w.])")
_STORAGE_KEY: Final = re.compile(rb"\d{12,}")
_LOG_PREFIX: Final = re.compile(r"\[?([WEI])\d{4} [\d:.]+ +\d+ |([A-Z]+):[\d-]+ [\d:]+ \d+:\d+ ")
_PID: Final = re.compile(r"(?<=/proc/)\d+|(?<=pid[ =:])\d+|(?<=:\[)\d+(?=\])")


def bits(value: Any) -> Any:
    """A value bit by bit: large ones as a digest, floats in hexadecimal."""
    if isinstance(value, torch.Tensor):
        return _tensor_bits(value)
    if isinstance(value, torch.nn.Module):
        return {"class": type(value).__qualname__, "state": bits(value.state_dict())}
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes {hashlib.sha256(value).hexdigest()[:16]}"
    if isinstance(value, float):
        return value.hex()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {plain(str(key)): bits(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [bits(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(str(each)) for each in value)
    return plain(value if isinstance(value, str) else repr(value))


def _tensor_bits(tensor: torch.Tensor) -> Any:
    dense = tensor.detach()
    if dense.layout is not torch.strided:
        dense = dense.to_dense()
    data = dense.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""
    return [type(tensor).__name__, str(tensor.dtype), list(tensor.shape), tensor.requires_grad, bits(data)]


def file_bits(*paths: str | os.PathLike[str]) -> Any:
    """The bytes of these files, and of all files below these directories."""
    found: dict[str, Any] = {}
    for path in map(Path, paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                found[str(file)] = bits(file.read_bytes())
    return found


def pickle_bits(pickled: bytes) -> Any:
    """The bytes of a pickle, without the addresses by which torch names storages."""
    return bits(_STORAGE_KEY.sub(b"N", pickled))


def plain(text: str) -> str:
    """The text without parts that differ between runs: addresses, process ids, times, this process's directories."""
    text = text.replace(str(Path.cwd()), ".")
    if "TMPDIR" in os.environ:
        text = text.replace(str(Path(os.environ["TMPDIR"]).parent), "~")
    return _PID.sub("N", _LOG_PREFIX.sub(r"[\1\2 ", _ADDRESS.sub("0x", text)))


def outcome(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What the call returns, bit by bit, or the formatted traceback of the exception: type, message and every frame."""
    try:
        return {"returned": bits(call(*arguments, **options))}
    except Exception:  # noqa: BLE001  # any error is what is observed
        return plain(traceback.format_exc())


def function_facts(function: Any) -> dict[str, Any]:
    """What a host can ask a function about itself."""
    facts: dict[str, Any] = {
        "type": type(function).__name__,
        "repr": plain(repr(function)),
        "attributes": sorted(getattr(function, "__dict__", {})),
        "unwrapped is itself": inspect.unwrap(function) is function,
    }
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__"):
        facts[name] = bits(plain(repr(getattr(function, name, None))).encode())
    facts["signature"] = outcome(lambda: plain(str(inspect.signature(function))))
    facts["source"] = outcome(lambda: inspect.getsource(function).encode())
    code = getattr(function, "__code__", None)
    if code is not None:
        facts["code"] = [code.co_name, plain(code.co_filename), code.co_firstlineno, code.co_argcount, code.co_flags]
        facts["closure"] = len(function.__closure__ or ())
    facts["pickled"] = outcome(pickle.dumps, function)
    facts["unpickled is itself"] = outcome(lambda: pickle.loads(pickle.dumps(function)) is function)
    return facts


def descriptors() -> list[str]:
    """What the open descriptors refer to, without the snapshot file while the sidecar runs, which it openly keeps open."""
    snapshots = os.environ.get("GPUMODELS_DIR", "")
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = str(Path(f"/proc/self/fd/{name}").readlink())
        except OSError:
            continue  # of this listing itself
        if target.startswith("/proc/") and target.endswith("/fd"):
            continue
        if Mode.of_this_process() is Mode.BESIDE and snapshots and target.startswith(snapshots):
            continue
        found.append(plain(target))
    return sorted(found)


def lasting_descriptors() -> list[str]:
    """The same, without files that the sidecar's scan has open for a moment."""
    lasting = Counter(descriptors())
    if Mode.of_this_process() is Mode.BESIDE:
        for _ in range(3):
            time.sleep(0.01)
            lasting &= Counter(descriptors())
    return sorted(lasting.elements())


def threads() -> list[str]:
    """Names of the living threads, without the sidecar's own while it runs."""
    beside = Mode.of_this_process() is Mode.BESIDE
    names = (re.sub(r"\d+", "N", thread.name) for thread in threading.enumerate())
    return sorted(name for name in names if not (beside and name == SIDECAR_THREAD))


def until_equal(observe: Callable[[], Any], expected: Any) -> Any:
    """Observe until it is what is expected, for at most PATIENCE_SECONDS, and return what was observed last."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while (seen := observe()) != expected and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return seen


def references(things: Sequence[object]) -> list[int]:
    """How many references to each object there are that last: a scan may hold one for a moment."""
    fewest = [sys.getrefcount(each) for each in things]
    if Mode.of_this_process() is Mode.BESIDE:
        for _ in range(40):
            time.sleep(0.005)
            fewest = [min(count, sys.getrefcount(each)) for count, each in zip(fewest, things, strict=True)]
    return fewest


def dies(reference: Callable[[], object]) -> bool:
    """Whether the object behind the weak reference is freed without the garbage collector."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return bool(until_equal(lambda: reference() is None, True))
    finally:
        if was_enabled:
            gc.enable()


def scanned(ticks: int = 3) -> None:
    """Wait until the sidecar has scanned this process again; return at once if it doesn't run."""
    if Mode.of_this_process() is not Mode.BESIDE:
        return
    until = _beat() + ticks
    give_up_at = time.monotonic() + 20
    while _beat() < until:
        assert time.monotonic() < give_up_at, "the sidecar beats no more"
        time.sleep(0.01)


def _beat() -> int:
    from gpumodels_shared.places import snapshot_files
    from gpumodels_shared.reader import SnapshotReader

    directory = Path(os.environ["GPUMODELS_DIR"])
    for name in snapshot_files(directory):
        if name.startswith(f"{os.getpid()}-"):
            reader = SnapshotReader(directory / name, os.geteuid())
            try:
                return reader.heartbeat().beat
            finally:
                reader.close()
    return 0


def counters() -> dict[str, Any]:
    """Dynamo's counters: graphs, breaks and their reasons, frames; empty if nothing was compiled."""
    if "torch._dynamo.utils" not in sys.modules:
        return {}
    return {
        kind: {plain(str(name)): count for name, count in counted.items()}
        for kind, counted in sys.modules["torch._dynamo.utils"].counters.items()
        if counted and kind != "inductor"
    }


def guards(function: Any) -> list[str]:
    """The guards of each compiled version of the function, as dynamo prints them."""
    from torch._dynamo.eval_frame import _debug_get_cache_entry_list

    entries = _debug_get_cache_entry_list(getattr(function, "__code__", function))
    return [plain(str(entry.guard_manager)) for entry in entries]
