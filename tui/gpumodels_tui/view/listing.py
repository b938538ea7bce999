"""The list of models on one or more devices: sorted, filtered, with adapters below their bases, and ranks of one job folded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from gpumodels_shared.records import Record, replace
from gpumodels_tui.view.outside_models import summary
from gpumodels_tui.view.process_rows import NOT_ATTACHED, UnattachedRow
from gpumodels_tui.view.rank_groups import RankGroup, members_of, rank_groups
from gpumodels_tui.view.rows import DeviceRow, ModelRow, rank

EntryKey = tuple[str, str]
"""Device key and row key, since a model on two devices is listed twice; for a group, `RankGroup.key`."""

MOST_INDENTED: Final = 4


class Entry(Record):
    """One line: a model on a device, the same model in several ranks of a job, or a process without a sidecar."""

    key: EntryKey
    device: DeviceRow
    row: ModelRow | None
    unattached: UnattachedRow | None = None
    depth: int = 0
    """The level of indentation; adapters are below their base model."""
    matches: bool = True
    """False if it is listed only because an entry below it matches."""
    group: RankGroup | None = None
    is_open: bool = False
    """Of a group: whether its ranks are listed below it."""
    rank: int | None = None
    """Of a model that is listed below its group."""

    @property
    def name(self) -> str:
        """The model's name; without a sidecar the name of the model that is known from outside, else the command."""
        if self.row is not None:
            return self.row.name
        if self.group is not None:
            return self.group.name
        assert self.unattached is not None
        return summary(self.unattached.models)[0] or self.unattached.command or f"process {self.unattached.pid}"

    @property
    def note(self) -> str:
        """What the columns don't show of the model; without a sidecar, how it is known. Empty for a group, which has ranks."""
        if self.unattached is not None:
            return summary(self.unattached.models)[1]
        return self.row.note if self.row is not None else ""

    @property
    def kind(self) -> str:
        """The model's kind, or `not attached`."""
        shown = self.row or self.group
        return shown.kind if shown is not None else NOT_ATTACHED

    @property
    def on_bytes(self) -> int:
        """Bytes on the device."""
        if (shown := self.row or self.group) is not None:
            return shown.on_bytes
        return (self.unattached.used_bytes or 0) if self.unattached is not None else 0

    @property
    def off_bytes(self) -> int:
        """The model's bytes that are not on the device."""
        shown = self.row or self.group
        return shown.off_bytes if shown is not None else 0

    @property
    def layers(self) -> int:
        """The model's layers; 0 for a process without a sidecar."""
        shown = self.row or self.group
        return shown.layers if shown is not None else 0

    @property
    def dtype(self) -> str:
        """The dtype of most of the model's bytes; empty for a process without a sidecar."""
        shown = self.row or self.group
        return shown.dtype if shown is not None else ""

    @property
    def share(self) -> float | None:
        """The share of the memory of the device, or of the group's devices, 0 to 1; None if its size isn't known."""
        total = self.device.total_bytes if self.group is None else self.group.total_bytes
        return self.on_bytes / total if total else None

    @property
    def since_ns(self) -> int | None:
        """When the model was loaded, or the process started."""
        if (shown := self.row or self.group) is not None:
            return shown.loaded_at_ns
        return self.unattached.started_at_ns if self.unattached is not None else None

    @property
    def last_used_ns(self) -> int | None:
        """When the model last ran, or may have run at the latest; None if that isn't known."""
        shown = self.row or self.group
        return shown.last_used_ns if shown is not None else None

    @property
    def process(self) -> str:
        """The process's label and pid; for a group, how many ranks and how unequal.

        Without a sidecar: program and pid, or user and pid where no model is known.
        """
        if self.row is not None:
            return self.row.process
        if self.group is not None:
            return f"{self.group.process} ({self.group.summary})"
        assert self.unattached is not None
        if self.unattached.models:
            return f"{self.unattached.program} {self.unattached.pid}".strip()
        return f"{self.unattached.user} {'' if self.unattached.pid is None else self.unattached.pid}".strip()

    @property
    def pid(self) -> int:
        """The process's id; 0 if it isn't known; the first rank's for a group."""
        if self.row is not None:
            return self.row.process_state.shown_pid
        if self.group is not None:
            return self.group.shares[0].pid
        assert self.unattached is not None
        return self.unattached.pid or 0

    @property
    def process_key(self) -> str:
        """The process's key, as in `ProcessRow.key`."""
        if self.row is not None:
            return self.row.process_state.key
        if self.group is not None:
            return self.group.process_key
        assert self.unattached is not None
        return self.unattached.key


class Order(Record):
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
    "layers": lambda entry: (entry.layers,),
    "dtype": lambda entry: (entry.dtype,),
    "age": lambda entry: (-(entry.since_ns or 0),),
    "idle": lambda entry: (entry.last_used_ns is None, entry.last_used_ns or 0),
    "process": lambda entry: (entry.process.casefold(), entry.pid),
}
"""Sort keys by column; the sort is stable."""


def entries(
    devices: Sequence[DeviceRow], order: Order | None = None, words: str = "", unfolded: AbstractSet[EntryKey] = frozenset()
) -> list[Entry]:
    """The lines of the list from top to bottom.

    Args:
        devices: The devices whose models and processes are listed.
        order: None for the default: the largest first, those of dead processes and small ones last.
        words: Only entries with all of these words in their name, kind, process, note or files are listed, regardless of case.
        unfolded: Keys of the groups whose ranks are listed.
    """
    listed = [Entry((device.key, row.key), device, row) for device in devices for row in device.models]
    groups = rank_groups((entry.device, entry.row) for entry in listed if entry.row is not None)
    owners = members_of(groups)
    if groups:
        by_key = {entry.key: entry for entry in listed}
        listed = _folded(listed, owners, unfolded) + [
            Entry(group.key, by_key[group.members[0]].device, None, group=group, is_open=group.key in unfolded)
            for group in groups
        ]
    if len(devices) > 1 or groups:
        listed.sort(key=_default_order)
    listed += [Entry((device.key, row.key), device, None, row) for device in devices for row in device.unattached]
    if order is not None and order != Order():
        listed.sort(key=SORTS[order.column], reverse=order.is_descending)
    return _matching(_nested(listed, _bases(devices, owners), owners), words.casefold().split(), devices)


def _folded(listed: Sequence[Entry], owners: Mapping[EntryKey, RankGroup], unfolded: AbstractSet[EntryKey]) -> list[Entry]:
    """The entries outside groups, and those of groups that are unfolded, with their rank."""
    kept = []
    for entry in listed:
        group = owners.get(entry.key)
        if group is None:
            kept.append(entry)
        elif group.key in unfolded:
            kept.append(replace(entry, rank=group.shares[group.members.index(entry.key)].rank))
    return kept


def _default_order(entry: Entry) -> tuple[object, ...]:
    """That of the row; a group is neither small nor dead."""
    if entry.row is not None:
        return rank(entry.row)
    return (False, False, -entry.on_bytes, -entry.off_bytes, entry.name, entry.key[1])


def _bases(devices: Sequence[DeviceRow], owners: Mapping[EntryKey, RankGroup]) -> Mapping[EntryKey, EntryKey]:
    """Below which entry each adapter, each group of adapters and each rank of a group belongs."""
    found: dict[EntryKey, EntryKey] = {}
    for device in devices:
        for row in device.models:
            key = (device.key, row.key)
            owner = owners.get(key)
            if owner is not None:
                found[key] = owner.key
            if row.parent_key is not None:
                base = (device.key, row.parent_key)
                above = owners[base].key if base in owners else base
                found.setdefault(key if owner is None else owner.key, above)
    return found


def _nested(listed: Sequence[Entry], bases: Mapping[EntryKey, EntryKey], owners: Mapping[EntryKey, RankGroup]) -> list[Entry]:
    """Move each adapter below its base if both are on the same device; a cycle of bases is broken at its first entry.

    Ranks stand below their group, in their order whatever the list's is.
    """
    if not bases:
        return list(listed)
    if owners:
        listed = sorted(listed, key=lambda entry: (entry.rank is None, entry.rank or 0))
    known = {entry.key for entry in listed}
    below: dict[EntryKey, list[Entry]] = {}
    tops: list[Entry] = []
    for entry in listed:
        parent = bases.get(entry.key)
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


def _matching(listed: list[Entry], words: Sequence[str], devices: Sequence[DeviceRow]) -> list[Entry]:
    """The entries that contain all the words, and those above them."""
    if not words:
        return listed
    kept: list[Entry] = []
    wanted = 0
    for entry in reversed(listed):
        matches = any(_contains(one, words) for one in (entry, *_inside(entry, devices)))
        if matches or entry.depth < wanted:
            kept.append(entry if matches else replace(entry, matches=False))
            wanted = entry.depth
    return kept[::-1]


def _inside(entry: Entry, devices: Sequence[DeviceRow]) -> list[Entry]:
    """What a group has folded away."""
    members = () if entry.group is None or entry.is_open else entry.group.members
    return [
        Entry((device.key, row.key), device, row)
        for device in devices
        for row in device.models
        if (device.key, row.key) in members
    ]


def _contains(entry: Entry, words: Sequence[str]) -> bool:
    more: tuple[str, ...] = () if entry.row is None else (*entry.row.model.files, *entry.row.model.candidates)
    if entry.unattached is not None:
        known = [text for one in entry.unattached.models for text in (one.name, *one.model.files)]
        more = (entry.unattached.command, entry.unattached.user, *known)
    text = "\n".join((entry.name, entry.kind, entry.process, entry.note, *more)).casefold()
    return all(word in text for word in words)
