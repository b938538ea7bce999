"""Classes of the host's and what is below them, found without running any of their code."""

from __future__ import annotations


def all_subclasses(root: type) -> set[type]:
    """The class and all below it, without running a metaclass's own `__subclasses__`."""
    found = {root}
    waiting = [root]
    while waiting:
        below: list[type] = type.__subclasses__(waiting.pop())
        for subclass in below:
            if subclass not in found:
                found.add(subclass)
                waiting.append(subclass)
    return found
