"""Where Hugging Face's libraries keep what they download, as their variables say."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

_VARIABLE: Final = r"(?a)\$(\w+|\{[^}]*\})"


def hub_cache(environment: Mapping[str, str], home: str) -> str:
    """The directory of downloaded repositories, as `huggingface_hub.constants` works it out in version 2.4.

    `HF_HUB_CACHE` goes before its older name, `HUGGINGFACE_HUB_CACHE`, and that before a folder in `HF_HOME`. `~` and variables
    are expanded in all three. The result is relative to the working directory if they are; empty if they are set to nothing.
    """
    cache_home = environment.get("XDG_CACHE_HOME", os.path.join(home, ".cache"))  # noqa: PTH118  # as text, so that "" stays ""
    hugging_face = expanded(environment.get("HF_HOME", os.path.join(cache_home, "huggingface")), environment, home)  # noqa: PTH118
    older = environment.get("HUGGINGFACE_HUB_CACHE", os.path.join(hugging_face, "hub"))  # noqa: PTH118
    return expanded(environment.get("HF_HUB_CACHE", older), environment, home)


def expanded(path: str, environment: Mapping[str, str], home: str) -> str:
    """The path with `~` at its beginning and then each `$NAME` and `${NAME}` replaced; what isn't set stays as it is."""
    if path.split("/", 1)[0] == "~":
        path = home.rstrip("/") + path[1:] or "/"
    path = os.path.expanduser(path)  # noqa: PTH111  # another user's home
    return re.sub(_VARIABLE, lambda match: environment.get(match[1].strip("{}"), match[0]), path)
