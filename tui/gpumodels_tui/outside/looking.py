"""Looks at processes from outside, in a thread of its own: at each anew only when its memory changed, else every ten seconds."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from gpumodels_shared.identity import start_ticks
from gpumodels_shared.records import Record, replace
from gpumodels_tui.outside.arguments import ArgumentModel, models_in
from gpumodels_tui.outside.facts import NOTHING, KnownBy, OutsideFacts, OutsideModel, Wanted
from gpumodels_tui.outside.loopback import NotToldError
from gpumodels_tui.outside.parents import is_worker, parents_of
from gpumodels_tui.outside.process_files import NotSeenError, as_text, has_model_suffix, models_of, shares_root
from gpumodels_tui.outside.servers import OLLAMA, asked, kind_of
from gpumodels_tui.outside.stores import names_in_store

AGAIN_SECONDS: Final = 10.0
SOONEST_SECONDS: Final = 2.0
"""A process is looked at no more often than this, however its memory changes."""
MOST_PROCESSES: Final = 256
PATIENCE_SECONDS: Final = 5.0
STOP_SECONDS: Final = 0.5


class _Seen(Record, frozen=False):
    ticks: int | None
    """When the process started: with the pid it tells one process from the next."""
    used_bytes: int | None
    at: float
    facts: OutsideFacts


class OutsideLooks:
    """The newest facts of the processes that are asked for. Only one thread at a time may use it; it has another itself."""

    def __init__(self, ask_servers: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        ask_servers: Whether servers on this machine are asked what they have loaded.
        clock: A monotonic clock in seconds.
        """
        self._ask_servers = ask_servers
        self._clock = clock
        self._seen: dict[int, _Seen] = {}
        self._wanted: Sequence[Wanted] = ()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def see(self, wanted: Sequence[Wanted]) -> Mapping[int, OutsideFacts]:
        """What is known of these processes by now, by pid; they are looked at meanwhile. Reads nothing itself."""
        self._wanted = wanted[:MOST_PROCESSES]
        if self._due():
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gpumodels-outside", daemon=True)
                self._thread.start()
            self._wake.set()
        return self._facts()

    def look_now(self, wanted: Sequence[Wanted]) -> Mapping[int, OutsideFacts]:
        """What is known of these processes after looking at each, or as far as that came in `PATIENCE_SECONDS`."""
        self._wanted = wanted[:MOST_PROCESSES]
        # One that hangs in the kernel can't be waited for in any other way.
        once = threading.Thread(target=self._look, name="gpumodels-outside", daemon=True)
        once.start()
        once.join(PATIENCE_SECONDS)
        return self._facts()

    def stop(self) -> None:
        """End the thread; one that hangs in the kernel is abandoned."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def _facts(self) -> dict[int, OutsideFacts]:
        seen = self._seen
        return {one.pid: seen[one.pid].facts for one in self._wanted if one.pid in seen}

    def _due(self) -> list[Wanted]:
        seen, now = self._seen, self._clock()
        return [one for one in self._wanted if one.pid not in seen or _is_due(one, seen[one.pid], now)]

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            if not self._stopping:
                self._look()

    def _look(self) -> None:
        """Look at those that are due, and forget those that nobody asks for."""
        wanted = self._wanted
        due = self._due()
        found = {one.pid: seen for one in wanted if (seen := self._seen.get(one.pid)) is not None}
        for one in due:
            before = found.get(one.pid)
            ticks = start_ticks(one.pid)
            facts = facts_of(one) if ticks is not None else NOTHING
            if self._ask_servers and ticks is not None:
                facts = _with_server(facts, one, wanted)
            if start_ticks(one.pid) != ticks:
                continue  # it ended meanwhile, and the number may be another's
            if before is not None and before.ticks == ticks and before.facts == facts:
                facts = before.facts
            found[one.pid] = _Seen(ticks, one.used_bytes, self._clock(), facts)
            self._seen = dict(found)
        self._seen = found


def _is_due(wanted: Wanted, seen: _Seen, now: float) -> bool:
    is_changed = wanted.used_bytes != seen.used_bytes
    return now - seen.at >= (SOONEST_SECONDS if is_changed else AGAIN_SECONDS)


def facts_of(wanted: Wanted, proc: str = "/proc") -> OutsideFacts:
    """What the kernel tells of one process: its files, and what its command names besides."""
    unread = ""
    try:
        models = models_of(wanted.pid, proc)
    except NotSeenError as error:
        models, unread = (), str(error)
    except (ProcessLookupError, ValueError):
        return NOTHING
    named = models_in(wanted.command)
    source = wanted.pid
    if not named and is_worker(wanted.command):
        for parent, command in parents_of(wanted.pid, proc):
            if named := models_in(command):
                source = parent
                break
    of_arguments = [_of_argument(one, source, proc) for one in named]
    real = {os.path.realpath(path) for model in models for path in model.files}
    others = [one for one in of_arguments if not one.files or os.path.realpath(one.files[0]) not in real]
    order = list(KnownBy)
    found = sorted((*models, *others), key=lambda model: order.index(model.known_by))
    return OutsideFacts(tuple(found), unread)


def _of_argument(argument: ArgumentModel, pid: int, proc: str) -> OutsideModel:
    """What an argument names; a path is completed by the directory in which its process is."""
    stated, said_by = (as_text(argument.value),), as_text(argument.flag) or "argument"
    if not has_model_suffix(argument.value):
        return OutsideModel(KnownBy.ARGUMENT, stated=stated, said_by=said_by)
    path, size = Path(argument.value), None
    with contextlib.suppress(OSError, ValueError):
        path = path if path.is_absolute() else Path(f"{proc}/{pid}/cwd").readlink() / path
        if shares_root(pid, proc) and path.is_file():
            size = path.stat().st_size
    names = names_in_store(str(path), "").names if size is not None else ()
    return OutsideModel(
        KnownBy.ARGUMENT, (as_text(str(path)),), tuple(map(as_text, names)), said_by, size, is_here=size is not None
    )


def _with_server(facts: OutsideFacts, wanted: Wanted, others: Sequence[Wanted]) -> OutsideFacts:
    """The facts with what its server says; where that can't be told apart from other processes' models, without."""
    try:
        told = asked(wanted.pid, wanted.command)
    except NotToldError as error:
        return replace(facts, not_said=str(error))
    kind = kind_of(wanted.command)
    if kind == OLLAMA and told:
        # It speaks of all its runners: only a single one can be the one that has this model.
        files = [model for model in facts.models if len(model.stated) > 1]
        named = [name for model in files for name in model.stated if name in {one.stated[0] for one in told}]
        if len(named) == 1:
            chosen = [replace(one, stated=tuple(named)) if named[0] in one.stated else one for one in facts.models]
            return replace(facts, models=tuple(chosen))
        if len(told) > 1 or sum(kind_of(one.command) == OLLAMA for one in others) > 1:
            return replace(facts, not_said=f"{told[0].said_by} has several models loaded")
    known = {name for model in facts.models for name in (*model.stated, *model.files)}
    new = [one for one in told if one.stated[0] not in known]
    order = list(KnownBy)
    return replace(facts, models=tuple(sorted((*facts.models, *new), key=lambda model: order.index(model.known_by))))
