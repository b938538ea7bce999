"""Sums a layer tree's bytes over all subtrees in one pass, and keeps which layers are unfolded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gpumodels_shared.schema import LayerTree

LONGEST_NUMBER: Final = 9
MOST_DTYPES: Final = 32
"""More than any model has; it limits how much memory a malformed snapshot can make us use."""
MOST_DEVICES: Final = 64
"""More devices than any model is on."""
LONGEST_PATH: Final = 1000
"""How many characters at the end of a dotted path are searched for words."""
ORDERS: Final = ("size", "name", "model")
"""The orders of a layer's children; `model` is the model's own order."""
CHAIN_LEVELS: Final = 8
"""How many levels of a chain of only children are unfolded together."""


@dataclass(frozen=True, slots=True)
class LayerSums:
    """Sums for each layer and everything below it, in the tree's preorder."""

    tree: LayerTree
    parents: Sequence[int]
    """Each layer's parent; −1 for the root."""
    ends: Sequence[int]
    """The first layer after each subtree."""
    on_bytes: Sequence[int]
    off_bytes: Sequence[int]
    shared_bytes: Sequence[int]
    """Bytes counted elsewhere, which are in none of the other sums."""
    parameters: Sequence[int]
    dtypes: Sequence[str]
    """The dtype of most bytes, with `+` appended if there are others."""
    device_bits: Sequence[int]
    """A bit mask of the tree's devices that each subtree has bytes on."""

    def devices(self, layer: int) -> list[str]:
        """The devices that the layer has bytes on, by torch's names; `meta` means in no memory."""
        return [device for bit, device in enumerate(self.tree.devices[:MOST_DEVICES]) if self.device_bits[layer] >> bit & 1]

    def total_bytes(self, layer: int) -> int:
        """The layer's bytes on the device and off it."""
        return self.on_bytes[layer] + self.off_bytes[layer]

    def share_of_parent(self, layer: int) -> float:
        """The layer's share of its parent's bytes, 0 to 1; the root's share is 1."""
        parent = self.parents[layer]
        total = self.total_bytes(parent) if parent >= 0 else self.total_bytes(layer)
        return self.total_bytes(layer) / total if total else 0.0

    def has_children(self, layer: int) -> bool:
        """Whether the layer has any children."""
        return self.ends[layer] > layer + 1

    def children(self, layer: int) -> Iterator[int]:
        """The layer's children, in the tree's order."""
        child = layer + 1
        while child < self.ends[layer]:
            yield child
            child = self.ends[child]

    def ordered(self, layer: int, order: str = "size", reverse: bool = False) -> list[int]:
        """The children in one of `ORDERS`; equals by number (`blocks.2` before `blocks.10`), else in the model's order."""
        names = self.tree.names
        if order == "size":
            children = sorted(self.children(layer), key=lambda child: (-self.total_bytes(child), _number(names[child])))
        elif order == "name":
            children = sorted(self.children(layer), key=lambda child: (_number(names[child]), names[child]))
        else:
            children = list(self.children(layer))
        return children[::-1] if reverse else children

    def class_name(self, layer: int) -> str:
        """The name of the module's class."""
        return self.tree.class_names[self.tree.classes[layer]]

    def path(self, layer: int) -> tuple[str, ...]:
        """The names from the root down to the layer; empty for the root."""
        names: list[str] = []
        while layer > 0:
            names.append(self.tree.names[layer])
            layer = self.parents[layer]
        return tuple(reversed(names))

    def find(self, path: Sequence[str]) -> tuple[int, bool]:
        """The layer at the path, or its deepest existing ancestor, and whether it is the layer itself."""
        layer = 0
        for name in path:
            below = next((child for child in self.children(layer) if self.tree.names[child] == name), None)
            if below is None:
                return layer, False
            layer = below
        return layer, True


def sum_layers(tree: LayerTree, device: str) -> LayerSums:
    """Sum up the tree in linear time.

    Args:
        tree: From a snapshot, validated by the decoder.
        device: torch's name of the device whose bytes are `on_bytes`; all others are `off_bytes`.
    """
    count = len(tree.names)
    parents = [-1] * count
    ends = [count] * count
    open_layers: list[int] = []
    for layer, depth in enumerate(tree.depths):
        while len(open_layers) > depth:
            ends[open_layers.pop()] = layer
        if open_layers:
            parents[layer] = open_layers[-1]
        open_layers.append(layer)
    on_bytes, off_bytes, shared_bytes = [0] * count, [0] * count, [0] * count
    parameters = list(tree.parameters)
    by_dtype = [[0] * count for _ in tree.dtypes[:MOST_DTYPES]]
    device_bits = [0] * count
    for layer, position, dtype, size in tree.memory:
        (on_bytes if tree.devices[position] == device else off_bytes)[layer] += size
        if size and position < MOST_DEVICES:
            device_bits[layer] |= 1 << position
        if dtype < MOST_DTYPES:
            by_dtype[dtype][layer] += size
    for layer, _, _, size in tree.shared:
        shared_bytes[layer] += size
    columns = [on_bytes, off_bytes, shared_bytes, parameters, *by_dtype]
    for column in columns:
        for layer in range(count - 1, 0, -1):
            if column[layer]:
                column[parents[layer]] += column[layer]
    for layer in range(count - 1, 0, -1):
        device_bits[parents[layer]] |= device_bits[layer]
    dtypes = [_main_dtype(tree.dtypes, [column[layer] for column in by_dtype]) for layer in range(count)]
    return LayerSums(tree, parents, ends, on_bytes, off_bytes, shared_bytes, parameters, dtypes, device_bits)


class Outline:
    """Keeps which layers of a tree are unfolded, by their names, even when the tree is replaced."""

    def __init__(self) -> None:
        self.sums: LayerSums | None = None
        self._unfolded: set[int] = set()
        self.order = ORDERS[0]
        self.reverse = False
        self._words: tuple[str, ...] = ()
        self._matching: set[int] = set()
        self._ancestors: set[int] = set()

    def filter(self, words: str) -> None:
        """Show only the layers with all these words in their dotted path or class, and their ancestors."""
        self._words = tuple(words.casefold().split())
        self._match()

    def is_match(self, layer: int) -> bool:
        """Whether the layer itself contains the words."""
        return not self._words or layer in self._matching

    def _match(self) -> None:
        self._matching, self._ancestors = set(), set()
        if self.sums is None or not self._words:
            return
        tree, parents = self.sums.tree, self.sums.parents
        classes = [name.casefold() for name in tree.class_names]
        paths: list[str] = []
        for layer, name in enumerate(tree.names):
            path = f"{paths[parents[layer]]}.{name.casefold()}" if layer and parents[layer] > 0 else name.casefold()
            paths.append(path[-LONGEST_PATH:])
            text = f"{path}\n{classes[tree.classes[layer]]}"
            if all(word in text for word in self._words):
                self._matching.add(layer)
                above = layer
                while above >= 0 and above not in self._ancestors:
                    self._ancestors.add(above)
                    above = parents[above]

    def replace(self, sums: LayerSums) -> None:
        """Show another state of the model. The first one is unfolded down to its first branch."""
        before = self.sums
        self.sums = sums
        if before is None or not before.tree.names:
            self._unfolded = set()
            self._unfold_chain(0)
        elif before.tree.names != sums.tree.names or before.tree.depths != sums.tree.depths:
            found = (sums.find(before.path(layer)) for layer in self._unfolded)
            self._unfolded = {layer for layer, exact in found if exact}
        self._match()

    def is_unfolded(self, layer: int) -> bool:
        """Whether the layer's children are shown."""
        return layer in self._unfolded

    def unfold(self, layer: int) -> None:
        """Show the layer's children."""
        if self.sums is not None and self.sums.has_children(layer):
            self._unfold_chain(layer)

    def fold(self, layer: int) -> None:
        """Hide the layer's children."""
        self._unfolded.discard(layer)

    def layers_in_sight(self) -> list[int]:
        """The layers to show, from top to bottom."""
        if self.sums is None or not self.sums.tree.names:
            return []
        shown: list[int] = []
        waiting = [0]
        while waiting:
            layer = waiting.pop()
            shown.append(layer)
            if self._words:
                children = self.sums.ordered(layer, self.order, self.reverse)
                waiting.extend(child for child in reversed(children) if child in self._ancestors)
            elif layer in self._unfolded:
                waiting.extend(reversed(self.sums.ordered(layer, self.order, self.reverse)))
        return shown

    def _unfold_chain(self, layer: int) -> None:
        assert self.sums is not None
        for _ in range(CHAIN_LEVELS):
            if layer >= len(self.sums.ends) or not self.sums.has_children(layer):
                return
            self._unfolded.add(layer)
            if self.sums.ends[layer + 1] != self.sums.ends[layer]:
                return
            layer += 1


def _number(name: str) -> int:
    return int(name) if name.isdecimal() and len(name) <= LONGEST_NUMBER else -1


def _main_dtype(names: Sequence[str], sizes: Sequence[int]) -> str:
    largest = max(sizes, default=0)
    if not largest:
        return ""
    return names[sizes.index(largest)] + ("+" if sum(sizes) > largest else "")
