"""Decides which files together are one checkpoint, from their names: numbered shards, and the indexes that list them.

| scheme | written by |
|---|---|
| `model-00001-of-00004.safetensors` | transformers, diffusers; `-00001-of-000163` DeepSeek; `-1-of-61` Kimi |
| `model.fp16-00001-of-00002.safetensors` | transformers and diffusers, with a variant |
| `model-00001-of-00002.fp16.safetensors` | diffusers up to 0.31, with a variant |
| `model.safetensors-00001-of-00004.safetensors` | some of Qwen's and GLM's repositories |
| `name-Q4_K_M-00001-of-00003.gguf` | llama.cpp's `gguf-split` |
| `name.gguf.part1of2`, `name_part_1_of_2` | people, to be joined before they are read |
| `consolidated.00.pth` | Meta's Llama, a file for each of the GPUs |
| `model0-mp8.safetensors` | DeepSeek's conversion for several GPUs |
| `model-rank-0-part-1.safetensors` | vLLM's sharded state |
| `mp_rank_00_model_states.pt` | DeepSpeed and Megatron |

What the numbers leave out, the rest of the name says: two variants in one folder are two checkpoints, and so are the same weights
split into another number of shards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from gpumodels_shared.records import Record

_SUFFIX: Final = r"\.(?:safetensors|sft|gguf|ggml|pt|pth|bin|ckpt|pkl|h5|msgpack|npz)"
_VARIANT: Final = r"(?:\.[a-z][\w-]*?|[-_.](?:b?f(?:p|loat)?\d+|int\d+|(?:ud[-_.])?i?q\d\w*))"
"""Of the words behind the number, any after a dot; after a hyphen, which is more often a part of a name, precisions only."""
_OF: Final = (
    rf"^(?P<stem>.*?)(?P<inner>{_SUFFIX})?(?:^|[-_.])(?P<word>(?:part|shard|split)[-_.]?)?"
    rf"(?P<number>\d{{1,9}})(?P<of>[-_.]?of[-_.]?)(?P<total>\d{{1,9}})(?P<variant>{_VARIANT})??(?P<suffix>{_SUFFIX})?$"
)
"""`stem-00001-of-00004.variant.suffix`."""
_PARALLEL: Final = (
    rf"^(?P<stem>consolidated)\.(?P<number>\d\d)(?P<suffix>{_SUFFIX})$",
    rf"^(?P<stem>model)(?P<number>\d{{1,4}})-mp(?P<total>\d{{1,4}})(?P<suffix>{_SUFFIX})$",
    rf"^(?P<stem>model)-rank-(?P<number>\d{{1,4}}-part-\d{{1,4}})(?P<suffix>{_SUFFIX})$",
    rf"^(?P<stem>)mp_rank_(?P<number>\d\d)_model_states(?P<suffix>{_SUFFIX})$",
)
"""Files for each of several GPUs, by the whole name."""
_INDEX: Final = r"^.+\.safetensors(?:\.[\w-]+)?\.index(?:\.[\w-]+)?\.json$"
"""`model.safetensors.index.json`; with a variant `….index.fp16.json`, as transformers and diffusers write it."""
_VALID_TOTAL: Final = range(1, 100_000)
SURE_DIGITS: Final = 3
"""A number of so many digits may stand without `-of-` and `part`: `girl_2_of_10` may be one of ten models."""
UNNAMED: Final = "model"
"""The stem of files whose names say nothing but the number."""
_KEPT: Final = 8_192
"""How many names are remembered: the largest checkpoints have some hundred shards."""


class Shard(Record):
    """What a file's name says of the checkpoint that it is a part of."""

    stem: str
    """The checkpoint's name, without number, suffix and variant: `model`."""
    group: str
    """The file's name without the number: the same for all shards of one checkpoint, and for no other file beside them."""
    number: str
    total: int | None
    """How many there are; None if the names don't say it."""


def shard_of(name: str) -> Shard | None:
    """What a file's name, without its directory, says; None if it is no shard's."""
    return _shard_of(name) if "of" in name or name.startswith(("consolidated.", "model", "mp_rank_")) else None


@lru_cache(maxsize=_KEPT)
def _shard_of(name: str) -> Shard | None:
    found = re.match(_OF, name, re.IGNORECASE)
    if found is not None:
        number, total = int(found["number"]), int(found["total"])
        is_numbered = found["of"].lower() == "-of-" or found["word"] or len(found["number"]) >= SURE_DIGITS
        if total not in _VALID_TOTAL or number > total or not is_numbered:
            return None
        inner, variant, suffix = found["inner"] or "", found["variant"] or "", found["suffix"] or ""
        group = f"{found['stem']}{inner}-of-{found['total']}{variant}{suffix}"
        return Shard((found["stem"] or UNNAMED) + variant, group, found["number"], total)
    for pattern in _PARALLEL:
        found = re.match(pattern, name)
        if found is not None:
            stated = found.groupdict().get("total")
            group = name[: found.start("number")] + name[found.end("number") :]
            return Shard(found["stem"] or UNNAMED, group, found["number"], int(stated) if stated else None)
    return None


def checkpoint_of(path: str) -> str:
    """The path without the shard's number: `model-of-00004.safetensors` for `model-00001-of-00004.safetensors`.

    It is the same for all shards of a checkpoint, and differs if a checkpoint was split again into another number of shards.
    """
    directory, slash, name = path.rpartition("/")
    shard = shard_of(name)
    return path if shard is None else f"{directory}{slash}{shard.group}"


def shards_in_all(path: str) -> int | None:
    """The number of shards that this shard's name states; None if it states none, or the file isn't a shard."""
    shard = shard_of(path.rpartition("/")[2])
    return None if shard is None else shard.total


def are_complete(paths: Iterable[str]) -> bool:
    """Whether these are all the shards of one checkpoint, each once. Some number from 0, most from 1."""
    shards = [shard_of(path.rpartition("/")[2]) for path in paths]
    known = [shard for shard in shards if shard is not None]
    if not known or len(known) < len(shards) or known[0].total is None or len({shard.group for shard in known}) > 1:
        return False
    total = known[0].total
    numbers = sorted(int(shard.number) for shard in known)
    return numbers in (list(range(1, total + 1)), list(range(total)))


def is_index(name: str) -> bool:
    """Whether a file of this name lists the shards of a checkpoint beside it, whichever variant it is."""
    return name.endswith(".json") and re.match(_INDEX, name) is not None
