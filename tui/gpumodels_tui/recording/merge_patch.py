"""JSON merge patches (RFC 7396): what a line of a recording holds, as most of a state is that of the line before.

In documents that are patched, an object's key without a value is left out, never null: null in a patch removes it. Lists are
replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Document = dict[str, Any]
_ABSENT: Final = object()


def without_nulls(value: Any) -> Any:
    """The value without keys whose value is null; lists keep theirs."""
    if isinstance(value, Mapping):
        return {key: without_nulls(one) for key, one in value.items() if one is not None}
    return value


def patch_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> Document:
    """The patch that makes `after` of `before`. Parts that are the identical object are not compared."""
    patch: Document = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key, _ABSENT)
        if old is value:
            continue
        if isinstance(old, dict) and isinstance(value, dict):
            if part := patch_between(old, value):
                patch[key] = part
        elif old != value:
            patch[key] = value
    return patch


def patched(document: Mapping[str, Any], patch: Mapping[str, Any]) -> Document:
    """The document after the patch. Parts that it doesn't change are the identical objects."""
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            old = result.get(key)
            result[key] = patched(old if isinstance(old, dict) else {}, value)
        else:
            result[key] = value
    return result
