"""Picks objects out of all that the garbage collector tracks, without ever holding the others while the host runs.

Among them are tuples that are being built. `tuple(generator)` allocates a tuple, runs the generator, and then resizes the tuple,
which fails with a SystemError in the host's thread if anybody else refers to it. So the list of all objects is made, searched and
emptied by functions in C that call one another: no other thread gets the interpreter in between, and no collection, whose
callbacks are Python, begins.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import chain, compress, repeat, starmap
from operator import eq, is_, is_not
from typing import Any, Final

from gpumodels.support.never_pickled import never_pickled

NO_ARGUMENTS: Final = ()
_number_of: Final[Callable[[Any], int]] = object.__hash__
"""A class's address, turned: `hash` would call a metaclass's `__hash__`, and `id` each function that watches audit events."""
_Lists = list[list[Any]]


@never_pickled
class TrackedObjects:
    """Objects of some classes. What was found is kept until this object is let go of.

    Args:
        all_of_them: returns a list of objects; `gc.get_objects` or `gc.get_referrers`.
        kinds: the exact classes of the objects to find.
        whether_there: an object of which it is to be told whether it is in that list.
        arguments: those of `all_of_them`.
    """

    def __init__(
        self,
        all_of_them: Callable[..., list[Any]],
        kinds: Collection[type],
        whether_there: object = None,
        arguments: tuple[Any, ...] = NO_ARGUMENTS,
    ) -> None:
        self.found: list[Any] = []
        are_there: list[bool] = []
        wanted = frozenset(map(_number_of, kinds))
        everything: _Lists = []
        are_wanted = map(wanted.__contains__, map(_number_of, _types(everything)))
        _at_once(
            everything,
            starmap(all_of_them, (arguments,)),
            partial(self.found.extend, compress(_each(everything), are_wanted)),
            partial(are_there.extend, map(any, (map(is_, _each(everything), repeat(whether_there)),))),
        )
        self.is_there = any(are_there)
        """Whether `whether_there` was in the list."""

    def of(self, kinds: Collection[type]) -> list[Any]:
        """Those of these classes among the found ones."""
        wanted = frozenset(map(_number_of, kinds))
        return [one for one in self.found if _number_of(type(one)) in wanted]


def referrers_of(objects: tuple[Any, ...]) -> list[Any]:
    """`gc.get_referrers(*objects)` without tuples that are being built: those have places that refer to nothing yet.

    A tuple all of whose places are filled at this moment, and that is to become longer, can't be told from any other.
    """
    found: list[Any] = []
    everything: _Lists = []
    tuples: _Lists = [[]]
    _at_once(
        everything,
        starmap(gc.get_referrers, (objects,)),  # this very tuple is passed on: a copy would be one more referrer
        partial(found.extend, compress(_each(everything), map(is_not, _types(everything), repeat(tuple)))),
        partial(tuples[0].extend, compress(_each(everything), map(is_, _types(everything), repeat(tuple)))),
        partial(
            found.extend,
            compress(_each(tuples), map(eq, map(len, _each(tuples)), map(len, map(gc.get_referents, _each(tuples))))),
        ),
        partial(tuples[0].clear),
    )
    return found


def _each(lists: _Lists) -> Iterator[Any]:
    """An iterator in C over what the lists have by the time at which it is used."""
    return chain.from_iterable(lists)


def _types(lists: _Lists) -> Iterator[type]:
    return map(type, _each(lists))


def _at_once(everything: _Lists, all_of_them: Iterator[list[Any]], *steps: partial[Any]) -> None:
    """Fill, search and empty the list, without a byte of Python between. The steps are calls of functions in C, too."""
    were_collecting: list[bool] = []
    calls = (
        partial(were_collecting.extend, starmap(gc.isenabled, (NO_ARGUMENTS,))),
        partial(gc.disable),
        partial(everything.extend, all_of_them),
        *steps,
        partial(deque, map(list.clear, everything), 0),  # not only let go of: iterators that did not end hold the list
        partial(deque, map(partial.__call__, compress((partial(gc.enable),), were_collecting)), 0),
    )
    try:
        deque(map(partial.__call__, calls), 0)
    except BaseException:  # no memory for the list
        for listed in everything:
            listed.clear()
        if any(were_collecting):
            gc.enable()
        raise
