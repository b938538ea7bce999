"""Tells what programs make up (digests, UUIDs, numbers and times) from what people call something.

A name with a part that was made up stays one (`resnet50-0676ba61`); what has no other word that says something, isn't.
"""

from __future__ import annotations

import re
from typing import Final

_UUID: Final = r"(?i)(?<![0-9a-z])[0-9a-f]{8}([-_])(?:[0-9a-f]{4}\1){3}[0-9a-f]{12}(?![0-9a-z])"
_STORE_PREFIX: Final = r"^(?=[a-z]*\d)[0-9a-df-np-sv-z]{32}-(?=.)"
"""The digest that Nix and Guix put before a name; their alphabet has no e, o, t and u, so hardly anything else fits."""
_BRIEF_DIGEST: Final = r"^(?=(?:[a-f]*\d){2})(?=\d*[a-f])[0-9a-f]{7,}$"
"""Hexadecimal digits of which two and more are digits: `face2face` is a name."""
_DIGEST: Final = (
    r"^(?:[0-9a-f]{30,}|[0-9A-F]{30,}|(?=.*\d)[0-9a-df-np-sv-z]{32}|Qm[1-9A-HJ-NP-Za-km-z]{44}|0[0-7][0-9A-HJKMNP-TV-Z]{24})$"
)
"""Digests in hexadecimal digits and in Nix's alphabet, IPFS's first kind of identifiers, and ULIDs."""
_BASE32: Final = r"^(?:[a-z2-7]{26,}|[A-Z2-7]{26,})$"
"""Of random text of 32 such characters, one in a hundred looks like a word by what `_is_random` asks; of 26, one in twenty."""
_CONSONANTS: Final = r"(?i)[b-df-hj-np-tv-z]{5}"
_CONTENT_STORES: Final = r"(?i)^(?:(?:sha|md|blake)\w*(?:-s\d+)?[-_:]+)?[0-9a-f]{30,}(?:-\d{1,5})?$"
"""Names that stores give to files; the first two digits may be a folder's name. S3 appends the number of parts."""
_TIME: Final = r"(?i)^(?:\d+|\d+t\d+z?|\d+h\d+m?(?:\d+s?)?)$"
_TENSORBOARD_RUN: Final = r"^[A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d(?:_.*)?$"
_EMPTY_WORD: Final = (
    r"(?i)^(?:models?|weights?|checkpoints?|ckpts?|snapshots?|states?|params|runs?|trials?|jobs?|tasks?|exp|experiments?|train|"
    r"files?|blobs?|artifacts?|uploads?|downloads?|pvc|volumes?|tmp|temp|id|uuid|etag|cid|hash)$"
)
"""Words of which none says what a model is."""
_ABBREVIATION: Final = r"(?i)^(?:[a-z]|[vs]\d+|(?:sha|md|blake|xxh)\w*)$"
"""What may stand beside a digest: one letter, a version, a size, the digest's kind."""


def without_store_prefix(name: str) -> str:
    """`gemma-2b` from what is so called in a store that puts a digest before it."""
    return re.sub(_STORE_PREFIX, "", name)


def is_content_digest(name: str) -> bool:
    """Whether stores call files so by their content: 128 bits and more, in hexadecimal digits."""
    return re.match(_CONTENT_STORES, name) is not None


def is_made_up(name: str) -> bool:
    """Whether this is an identifier, with no word that says what it is of: `sha256-…`, `run-20240501_123045-a1b2c3d4`."""
    if re.match(_TENSORBOARD_RUN, name):
        return True
    rest = re.sub(_UUID, "", name)
    words = [word for word in re.findall(r"[A-Za-z0-9]+", rest) if not _is_random(word)]
    is_any_random = rest != name or len(words) < len(re.findall(r"[A-Za-z0-9]+", rest))
    return is_any_random and all(
        re.match(_TIME, word) or re.match(_EMPTY_WORD, word) or re.match(_ABBREVIATION, word) for word in words
    )


def is_numbered(name: str) -> bool:
    """Whether this is a number, a date or a time, perhaps with a word that says nothing: `2024-05-01`, `run_12`, `model-2`."""
    words = re.findall(r"[A-Za-z]+(?=\d+$)|[A-Za-z0-9]+", name)
    numbers = [word for word in words if re.match(_TIME, word)]
    return bool(numbers) and all(word in numbers or re.match(_EMPTY_WORD, word) for word in words)


def _is_random(word: str) -> bool:
    if re.match(_DIGEST, word) or re.match(_BRIEF_DIGEST, word.lower()):
        return True
    if re.match(_BASE32, word) and (len(re.findall(r"\d+", word)) > 3 or re.search(_CONSONANTS, word)):
        return True
    return len(word) >= 40 and len(re.findall(r"[A-Za-z]\d|\d[A-Za-z]", word)) >= 8
