"""Finds the subclasses of a class without running any code of theirs."""

from __future__ import annotations


def all_subclasses(root: type) -> set[type]:
    """The class and all its direct and indirect subclasses; a metaclass's own `__subclasses__` isn't called."""
    found = {root}
    waiting = [root]
    while waiting:
        below: list[type] = type.__subclasses__(waiting.pop())
        for subclass in below:
            if subclass not in found:
                found.add(subclass)
                waiting.append(subclass)
    return found
