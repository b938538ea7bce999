"""The list of models: of one device or several, in an order, those that match; adapters under their bases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from gpumodels_tui.view.process_rows import NOT_ATTACHED, UnattachedRow
from gpumodels_tui.view.rows import DeviceRow, ModelRow, rank

EntryKey = tuple[str, str]
"""Device key and row key: a model on two devices is listed on both."""

MOST_INDENTED: Final = 4


class Entry(Struct, frozen=True):
    """One line: a model on a device, or a process there without a sidecar."""

    key: EntryKey
    device: DeviceRow
    row: ModelRow | None
    unattached: UnattachedRow | None = None
    depth: int = 0
    """How far it is indented: adapters stand under their base."""
    matches: bool = True
    """False where it is listed only for what is below it."""

    @property
    def name(self) -> str:
        """What it is called."""
        if self.row is not None:
            return self.row.name
        assert self.unattached is not None
        return self.unattached.command or f"process {self.unattached.pid}"

    @property
    def kind(self) -> str:
        """A model's, or that nothing is known."""
        return self.row.kind if self.row is not None else NOT_ATTACHED

    @property
    def on_bytes(self) -> int:
        """On the device."""
        if self.row is not None:
            return self.row.on_bytes
        return (self.unattached.used_bytes or 0) if self.unattached is not None else 0

    @property
    def off_bytes(self) -> int:
        """Of a model: not on it."""
        return self.row.off_bytes if self.row is not None else 0

    @property
    def share(self) -> float | None:
        """Of the device's memory."""
        return self.on_bytes / self.device.total_bytes if self.device.total_bytes else None

    @property
    def since_ns(self) -> int | None:
        """When it was loaded, or started."""
        if self.row is not None:
            return self.row.loaded_at_ns
        return self.unattached.started_at_ns if self.unattached is not None else None

    @property
    def process(self) -> str:
        """Label and pid."""
        if self.row is not None:
            return self.row.process
        assert self.unattached is not None
        return f"{self.unattached.user} {self.unattached.pid}".strip()

    @property
    def pid(self) -> int:
        """The process's."""
        if self.row is not None:
            return self.row.process_state.pid
        assert self.unattached is not None
        return self.unattached.pid

    @property
    def process_key(self) -> str:
        """`ProcessRow.key`."""
        if self.row is not None:
            return self.row.process_state.key
        assert self.unattached is not None
        return self.unattached.key


class Order(Struct, frozen=True):
    """By which column the list is sorted."""

    column: str = "on"
    reverse: bool = False

    @property
    def is_descending(self) -> bool:
        """Numbers begin with the largest, words with A."""
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
"""By column; equals stay as the view has them."""


def entries(devices: Sequence[DeviceRow], order: Order | None = None, words: str = "") -> list[Entry]:
    """The lines, top to bottom.

    Args:
        devices: Whose models and processes.
        order: None for the largest first, the dead and the small last.
        words: All of them must be in an entry's name, kind, process or files, in any case of letters.
    """
    listed = [Entry((device.key, row.key), device, row) for device in devices for row in device.models]
    if len(devices) > 1:
        listed.sort(key=lambda entry: rank(entry.row) if entry.row is not None else ())
    listed += [Entry((device.key, row.key), device, None, row) for device in devices for row in device.unattached]
    if order is not None and order != Order():
        listed.sort(key=SORTS[order.column], reverse=order.is_descending)
    return _matching(_nested(listed), words.casefold().split())


def _nested(listed: Sequence[Entry]) -> list[Entry]:
    """Each adapter after its base, where both are listed for one device; a circle of bases is broken where it begins."""
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
    """Those that have all the words, and what they stand under."""
    if not words:
        return listed
    kept: list[Entry] = []
    wanted = 0
    for entry in reversed(listed):
        matches = _has(entry, words)
        if matches or entry.depth < wanted:
            kept.append(entry if matches else replace(entry, matches=False))
            wanted = entry.depth
    return kept[::-1]


def _has(entry: Entry, words: Sequence[str]) -> bool:
    files = () if entry.row is None else (*entry.row.model.files, *entry.row.model.candidates)
    said = "\n".join((entry.name, entry.kind, entry.process, *files)).casefold()
    return all(word in said for word in words)
