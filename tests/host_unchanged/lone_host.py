"""A host that has a process of its own: `python … -m host_unchanged.lone_host ENDING`, in the mode of the environment.

What it prints, and how it ends, must be the same in all modes.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Final

from host_unchanged.running import enter
from host_unchanged.table import Mode


def main(ending: str) -> None:
    """Load, move and save a model, print, and end in the way that was asked for."""
    enter(Mode.of_this_process())
    import torch
    from torch import nn

    from host_unchanged.observing import bits, file_bits, scanned

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8).eval())
    torch.save(model.state_dict(), "weights.pt")
    model.load_state_dict(torch.load("weights.pt"))
    scanned()
    torch.save(model.half(), "half.pt")
    print(bits(model), file_bits("weights.pt", "half.pt"), flush=True)  # noqa: T201
    ENDINGS[ending]()


def _exits() -> None:
    sys.exit(3)


def _raises() -> None:
    threading.Thread(target=lambda: threading.main_thread().join(), name="outlives").start()
    raise KeyError("what the host raises")


def _is_terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()


def _crashes() -> None:
    faulthandler.enable(all_threads=False)
    os.kill(os.getpid(), signal.SIGSEGV)


def _returns() -> None:
    pass


ENDINGS: Final[Mapping[str, Callable[[], None]]] = {
    "exits": _exits,
    "raises": _raises,
    "is terminated": _is_terminated,
    "crashes": _crashes,
    "returns": _returns,
}

if __name__ == "__main__":
    main(sys.argv[1])
