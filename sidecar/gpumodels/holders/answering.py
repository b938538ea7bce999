"""Answers viewers' questions, which lie beside the snapshot file. Nothing is done unless somebody asks."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gpumodels.holders.other_memory import Accounted, OtherMemory
from gpumodels.holders.search import Chain, Findings, HolderSearch, expected_hold_seconds
from gpumodels.support.failures import LOGGER, Failures
from gpumodels.support.never_pickled import never_pickled
from gpumodels_shared.asks import (
    ASK_SCHEMA,
    MAX_ANSWER_BYTES,
    MAX_ASK_BYTES,
    OTHER,
    WHY,
    AskError,
    answer_name,
    decode_ask,
    is_answer_of,
    is_ask_for,
    read_file,
)
from gpumodels_shared.places import write_new

LEAST_SECONDS: Final = 0.5
"""Between two searches, whoever asks."""
KEPT_SECONDS: Final = 60.0
"""How long an answer is kept that nobody has taken."""
MOST_WAITING: Final = 16
"""Questions that wait; more of them are ignored."""
ROOT: Final = 0

CoreOf = Callable[[str], Callable[[], Any] | None]
"""A weak reference to the model of this id; None if there is none."""


AccountedNow = Callable[[], Accounted | None]
"""What the sidecar has accounted for by now; None if torch isn't there yet."""


@never_pickled
class Answering:
    """Looks for questions once a tick, and answers one of them at a time. Only the sidecar's thread uses it.

    Args:
        core_of: finds a model.
        accounted: finds out what is known of the memory.
        pause: called between two slices of work; lets the host run, and may raise to end the search.
        failures: counts our own errors.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        core_of: CoreOf,
        accounted: AccountedNow,
        pause: Callable[[], None],
        failures: Failures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core_of = core_of
        self._accounted = accounted
        self._pause = pause
        self._failures = failures
        self._clock = clock
        self._looked_at: tuple[Path, int] | None = None
        """The directory that was last listed, and its time of change then."""
        self._waiting: list[str] = []
        self._answers: dict[str, float] = {}
        self._not_before = float("-inf")
        self.is_on = os.environ.get("GPUMODELS_ASK") != "0"
        self.ignored = 0
        """How many questions were none."""

    def answer(self, file: Path | None) -> None:
        """Answer the next question, if there is one.

        Args:
            file: the snapshot file; None if there is none at the moment.
        """
        if not self.is_on or file is None:
            return
        with self._failures.guard("answering a viewer"), contextlib.suppress(FileNotFoundError):
            self._remove_old(file.parent)
            self._look(file)
            if self._waiting and self._clock() >= self._not_before:
                self._take(file, self._waiting.pop(0))

    def close(self, file: Path | None) -> None:
        """Remove answers that nobody took."""
        if file is not None:
            for name in self._answers:
                with contextlib.suppress(OSError):
                    (file.parent / name).unlink()
        self._answers.clear()

    def _look(self, file: Path) -> None:
        """List the directory, if it has changed."""
        changed = (file.parent, os.stat(file.parent).st_mtime_ns)
        if changed == self._looked_at:
            return
        self._looked_at = changed
        names = os.listdir(file.parent)
        waiting = sorted(name for name in names if is_ask_for(name, file.name))
        self._waiting = waiting[:MOST_WAITING]
        for name in waiting[MOST_WAITING:]:
            self._ignore(file.parent, name, "too many at once")
        now = self._clock()
        for name in names:
            if is_answer_of(name, file.name):
                self._answers.setdefault(name, now)

    def _take(self, file: Path, name: str) -> None:
        directory = file.parent
        try:
            content = read_file(directory, name, {os.geteuid(), ROOT}, MAX_ASK_BYTES)
            question, model = decode_ask(content)
        except FileNotFoundError:
            return  # it was taken back
        except (AskError, OSError) as error:
            self._ignore(directory, name, str(error))
            return
        try:
            if question == WHY:
                self._why(directory, name, model)
            elif question == OTHER:
                self._other(directory, name)
        finally:
            self._not_before = self._clock() + LEAST_SECONDS
            with contextlib.suppress(OSError):
                (directory / name).unlink()

    def _why(self, directory: Path, name: str, model: str) -> None:
        core = self._core_of(model)
        if core is None:
            self._write(directory, name, {"state": "unknown", "model": model})
            return
        expected = expected_hold_seconds()
        self._write(directory, name, {"state": "searching", "model": model, "expected_hold_seconds": expected})
        self._pause()
        found = HolderSearch(core, self._pause).run()
        self._write(
            directory, name, {"state": "done", "model": model, "expected_hold_seconds": expected, "found": _as_document(found)}
        )

    def _other(self, directory: Path, name: str) -> None:
        accounted = self._accounted()
        if accounted is None:
            self._write(directory, name, {"state": "unknown"})
            return
        expected = expected_hold_seconds()
        self._write(directory, name, {"state": "searching", "expected_hold_seconds": expected})
        self._pause()
        found = OtherMemory(accounted, self._pause, self._failures).run()
        self._write(directory, name, {"state": "done", "expected_hold_seconds": expected, "found": found})

    def _write(self, directory: Path, ask: str, answer: dict[str, Any]) -> None:
        content = json.dumps({"schema": ASK_SCHEMA, **answer}).encode("ascii")[:MAX_ANSWER_BYTES]
        name = answer_name(ask)
        write_new(directory, name, content, {os.geteuid()})
        self._answers[name] = self._clock()

    def _ignore(self, directory: Path, name: str, reason: str) -> None:
        self.ignored += 1
        LOGGER.info("%s is ignored: %s", name, reason)
        with contextlib.suppress(OSError):
            (directory / name).unlink()

    def _remove_old(self, directory: Path) -> None:
        now = self._clock()
        for name in [name for name, at in self._answers.items() if now - at > KEPT_SECONDS]:
            del self._answers[name]
            with contextlib.suppress(OSError):
                (directory / name).unlink()


def _as_document(found: Findings) -> dict[str, Any]:
    return {
        "chains": [_chain(chain) for chain in found.chains],
        "is_garbage": found.is_garbage,
        "by_c_code": list(found.by_c_code[:20]),
        "hidden_objects": found.hidden_objects,
        "is_complete": found.is_complete,
        "visited": found.visited,
        "longest_hold_seconds": round(found.longest_hold_seconds, 4),
        "seconds": round(found.seconds, 3),
    }


def _chain(chain: Chain) -> dict[str, Any]:
    """With the file and name of the global variable that it begins with: the viewer reads there where it is assigned."""
    document: dict[str, Any] = {"text": chain.text, "steps": [{"kind": step.kind, "text": step.text} for step in chain.steps]}
    variable = chain.steps[0].variable if chain.steps else None
    return document if variable is None else {**document, "file": variable[0], "variable": variable[1]}
