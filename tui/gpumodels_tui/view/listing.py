"""The list of models on one or more devices: sorted, filtered, with adapters below their base models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from gpumodels_tui.view.process_rows import NOT_ATTACHED, UnattachedRow
from gpumodels_tui.view.rows import DeviceRow, ModelRow, rank

EntryKey = tuple[str, str]
"""Device key and row key, since a model on two devices is listed twice."""

MOST_INDENTED: Final = 4


class Entry(Struct, frozen=True):
    """One line: a model on a device, or a process on it without a sidecar."""

    key: EntryKey
    device: DeviceRow
    row: ModelRow | None
    unattached: UnattachedRow | None = None
    depth: int = 0
    """The level of indentation; adapters are below their base model."""
    matches: bool = True
    """False if it is listed only because an entry below it matches."""

    @property
    def name(self) -> str:
        """The model's name, or the process's command."""
        if self.row is not None:
            return self.row.name
        assert self.unattached is not None
        return self.unattached.command or f"process {self.unattached.pid}"

    @property
    def kind(self) -> str:
        """The model's kind, or `not attached`."""
        return self.row.kind if self.row is not None else NOT_ATTACHED

    @property
    def on_bytes(self) -> int:
        """Bytes on the device."""
        if self.row is not None:
            return self.row.on_bytes
        return (self.unattached.used_bytes or 0) if self.unattached is not None else 0

    @property
    def off_bytes(self) -> int:
        """The model's bytes that are not on the device."""
        return self.row.off_bytes if self.row is not None else 0

    @property
    def share(self) -> float | None:
        """The share of the device's memory, 0 to 1; None if its size isn't known."""
        return self.on_bytes / self.device.total_bytes if self.device.total_bytes else None

    @property
    def since_ns(self) -> int | None:
        """When the model was loaded, or the process started."""
        if self.row is not None:
            return self.row.loaded_at_ns
        return self.unattached.started_at_ns if self.unattached is not None else None

    @property
    def process(self) -> str:
        """The process's label and pid; its user and pid without a sidecar."""
        if self.row is not None:
            return self.row.process
        assert self.unattached is not None
        return f"{self.unattached.user} {'' if self.unattached.pid is None else self.unattached.pid}".strip()

    @property
    def pid(self) -> int:
        """The process's id; 0 if it isn't known."""
        if self.row is not None:
            return self.row.process_state.shown_pid
        assert self.unattached is not None
        return self.unattached.pid or 0

    @property
    def process_key(self) -> str:
        """The process's key, as in `ProcessRow.key`."""
        if self.row is not None:
            return self.row.process_state.key
        assert self.unattached is not None
        return self.unattached.key


class Order(Struct, frozen=True):
    """The column by which the list is sorted, and the direction."""

    column: str = "on"
    reverse: bool = False

    @property
    def is_descending(self) -> bool:
        """Whether the largest come first: the default for numbers, but not for words."""
        return (self.column in LARGEST_FIRST) is not self.reverse


LARGEST_FIRST: Final = frozenset({"on", "off", "share", "layers"})

SORTS: Final[Mapping[str, Callable[[Entry], tuple[object, ...]]]] = {
    "name": lambda entry: (entry.name.casefold(),),
    "kind": lambda entry: (entry.kind,),
    "device": lambda entry: (entry.device.number,),
    "on": lambda entry: (entry.on_bytes,),
    "off": lambda entry: (entry.off_bytes,),
    "share": lambda entry: (entry.share or 0.0,),
    "layers": lambda entry: (entry.row.layers if entry.row is not None else 0,),
    "dtype": lambda entry: (entry.row.dtype if entry.row is not None else "",),
    "age": lambda entry: (-(entry.since_ns or 0),),
    "process": lambda entry: (entry.process.casefold(), entry.pid),
}
"""Sort keys by column; the sort is stable."""


def entries(devices: Sequence[DeviceRow], order: Order | None = None, words: str = "") -> list[Entry]:
    """The lines of the list from top to bottom.

    Args:
        devices: The devices whose models and processes are listed.
        order: None for the default: the largest first, those of dead processes and small ones last.
        words: Only entries with all of these words in their name, kind, process or files are listed, regardless of case.
    """
    listed = [Entry((device.key, row.key), device, row) for device in devices for row in device.models]
    if len(devices) > 1:
        listed.sort(key=lambda entry: rank(entry.row) if entry.row is not None else ())
    listed += [Entry((device.key, row.key), device, None, row) for device in devices for row in device.unattached]
    if order is not None and order != Order():
        listed.sort(key=SORTS[order.column], reverse=order.is_descending)
    return _matching(_nested(listed), words.casefold().split())


def _nested(listed: Sequence[Entry]) -> list[Entry]:
    """Move each adapter below its base if both are on the same device; a cycle of bases is broken at its first entry."""
    if not any(entry.row is not None and entry.row.parent_key is not None for entry in listed):
        return list(listed)
    known = {entry.key for entry in listed}
    below: dict[EntryKey, list[Entry]] = {}
    tops: list[Entry] = []
    for entry in listed:
        parent = None if entry.row is None or entry.row.parent_key is None else (entry.key[0], entry.row.parent_key)
        if parent is None or parent not in known or parent == entry.key:
            tops.append(entry)
        else:
            below.setdefault(parent, []).append(entry)
    placed: dict[EntryKey, Entry] = {}
    for top in (*tops, *listed):
        waiting = [(top, 0)]
        while waiting:
            entry, depth = waiting.pop()
            if entry.key not in placed:
                placed[entry.key] = replace(entry, depth=min(depth, MOST_INDENTED)) if depth else entry
                waiting += [(child, depth + 1) for child in reversed(below.get(entry.key, ()))]
    return list(placed.values())


def _matching(listed: list[Entry], words: Sequence[str]) -> list[Entry]:
    """The entries that contain all the words, and those above them."""
    if not words:
        return listed
    kept: list[Entry] = []
    wanted = 0
    for entry in reversed(listed):
        matches = _contains(entry, words)
        if matches or entry.depth < wanted:
            kept.append(entry if matches else replace(entry, matches=False))
            wanted = entry.depth
    return kept[::-1]


def _contains(entry: Entry, words: Sequence[str]) -> bool:
    files = () if entry.row is None else (*entry.row.model.files, *entry.row.model.candidates)
    text = "\n".join((entry.name, entry.kind, entry.process, *files)).casefold()
    return all(word in text for word in words)
