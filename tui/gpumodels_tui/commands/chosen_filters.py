"""The filters that the options choose."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from gpumodels_tui.sources.feed import user_name
from gpumodels_tui.view.filters import Filters


def chosen_filters(arguments: argparse.Namespace) -> Filters:
    """The filters of these arguments. An empty word chooses nothing, and so clears what a weaker place chose."""
    return Filters(
        gpus=_words(arguments.gpu),
        processes=_words(arguments.process),
        users=tuple(user_name(int(word)) if word.isdecimal() else word for word in _words(arguments.user)),
        jobs=_words(arguments.job),
        kinds=_words(arguments.kind),
        min_bytes=arguments.min_bytes,
        names=_words(arguments.name),
        copies=arguments.copies,
    )


def _words(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in given if word))
