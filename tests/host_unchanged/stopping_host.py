"""A host that walks through its own state before the sidecar starts, after it stopped, and after a second start and stop.

`python -m host_unchanged.stopping_host SCENARIO`: prints the walks as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from host_unchanged.walking import OWN, walk


def _work() -> Any:
    """Do everything that the sidecar observes, and return the objects that stay alive."""
    import torch
    from safetensors.torch import load_file, save_file
    from torch import nn

    untyped: Any = torch
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    torch.save(model.state_dict(), "weights.pt")
    save_file(model.state_dict(), "weights.safetensors")
    model.load_state_dict(torch.load("weights.pt"))
    model.load_state_dict(load_file("weights.safetensors"), assign=True)
    model.half().float()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    untyped.utils.swap_tensors(model[0].bias, nn.Parameter(torch.zeros(8)))
    scripted = untyped.jit.trace(nn.Linear(8, 8), torch.ones(1, 8))
    return model, optimizer, scripted


def _walks(cycle: Callable[[], None]) -> list[Any]:
    """The walks before a start and stop, after it, and after another one."""
    kept = [_work()]
    walks = [walk()]
    for _ in range(2):
        cycle()
        kept[:] = [_work()]
        walks.append(walk())
    return walks


def _start_and_stop() -> None:
    import gpumodels
    from host_unchanged.observing import scanned

    gpumodels.start(interval=0.05)
    kept = _work()
    scanned()
    gpumodels.stop()
    del kept


def _after_torch() -> list[Any]:
    import gpumodels  # noqa: F401

    return _walks(_start_and_stop)


def _before_torch() -> list[Any]:
    """The sidecar is started before torch is imported, so that it waits for the import."""
    _start_and_stop()
    kept = _work()
    walks = [walk(identities=False)]
    del kept
    return walks


def _never() -> list[Any]:
    """The sidecar is imported but never started: `_before_torch` is compared with this."""
    import gpumodels  # noqa: F401

    _work()
    kept = _work()
    walks = [walk(identities=False)]
    del kept
    return walks


def _purged() -> list[Any]:
    """A notebook purges the package from `sys.modules`, imports it again, and starts and stops both copies."""
    import gpumodels as first

    def cycle() -> None:
        first.start(interval=0.05)
        for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
            del sys.modules[name]
        import gpumodels as again

        again.start(interval=0.05)
        kept = _work()
        again.stop()
        first.stop()
        del kept

    return _walks(cycle)


def _purged_and_lost() -> list[Any]:
    """The same, but nothing refers to the first copies any more when the last one is stopped."""
    importlib.import_module("gpumodels")
    return _walks(_purge_and_lose)


def _purge_and_lose() -> None:
    for _ in range(2):
        importlib.import_module("gpumodels").start(interval=0.05)
        kept = _work()
        for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
            del sys.modules[name]
    last = importlib.import_module("gpumodels")
    last.start(interval=0.05)
    last.stop()
    del kept


SCENARIOS: Final[Mapping[str, Callable[[], list[Any]]]] = {
    "after torch": _after_torch,
    "before torch": _before_torch,
    "never": _never,
    "purged": _purged,
    "purged and lost": _purged_and_lost,
}

if __name__ == "__main__":
    json.dump(SCENARIOS[sys.argv[1]](), sys.stdout)
