"""Makes a snapshot smaller while all its sums stay the same: the deepest layers are added to those that hold them."""

from __future__ import annotations

from dataclasses import replace

from gpumodels_shared.schema import LayerTree, Snapshot


def fold_deepest(snapshot: Snapshot) -> Snapshot | None:
    """The snapshot with its largest layer tree one level shallower; None where every tree is a single row."""
    trees = [(len(model.tree.names), position) for position, model in enumerate(snapshot.models) if model.tree is not None]
    size, position = max(trees, default=(0, 0))
    if size <= 1:
        return None
    model = snapshot.models[position]
    assert model.tree is not None
    folded = replace(model, tree=fold_below(model.tree, max(model.tree.depths) - 1))
    return replace(snapshot, models=(*snapshot.models[:position], folded, *snapshot.models[position + 1 :]))


def fold_below(tree: LayerTree, depth: int) -> LayerTree:
    """The tree with everything deeper than `depth` added to its ancestor at that depth; all sums stay the same."""
    kept: list[int] = []
    kept_rows: list[int] = []
    parameters: list[int] = []
    for position, level in enumerate(tree.depths):
        if level <= depth:
            kept.append(position)
            parameters.append(0)
        parameters[-1] += tree.parameters[position]
        kept_rows.append(len(kept) - 1)
    return replace(
        tree,
        names=tuple(tree.names[position] for position in kept),
        depths=tuple(tree.depths[position] for position in kept),
        classes=tuple(tree.classes[position] for position in kept),
        parameters=tuple(parameters),
        memory=_summed(tree.memory, kept_rows),
        shared=_summed(tree.shared, kept_rows),
        folded=tree.folded + len(tree.names) - len(kept),
    )


def _summed(entries: tuple[tuple[int, int, int, int], ...], kept_rows: list[int]) -> tuple[tuple[int, int, int, int], ...]:
    """The entries of a column, each added to the row that it is folded into."""
    sums: dict[tuple[int, int, int], int] = {}
    for layer, device, dtype, size in entries:
        entry = (kept_rows[layer], device, dtype)
        sums[entry] = sums.get(entry, 0) + size
    return tuple((*entry, size) for entry, size in sums.items())
