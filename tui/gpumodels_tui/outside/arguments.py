"""The models that a command names in its arguments, as the servers and loaders that people run write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from gpumodels_shared.records import Record
from gpumodels_tui.outside.process_files import has_model_suffix, is_model_file

MOST_ARGUMENTS: Final = 1000
MOST_MODELS: Final = 16
LONGEST: Final = 1000

FLAGS: Final = frozenset(
    {
        "--model",
        "--model-path",
        "--model-id",
        "--model-name-or-path",
        "--pretrained-model-name-or-path",
        "--model-dir",
        "--hf-repo",
        "-hf",
        "-hfr",
        "--lora",
        "--lora-scaled",
        "--lora-path",
        "--mmproj",
        "--model-draft",
        "-md",
        "--draft-model",
        "--speculative-model",
        "--speculative-draft-model-path",
        "--ckpt",
        "--ckpt-path",
        "--checkpoint",
        "--checkpoint-path",
        "--diffusion-model",
        "--vae",
    }
)
"""As they are written with hyphens; with underscores they mean the same."""
ONLY_FILES: Final = frozenset({"-m", "--vae", "--ckpt", "--checkpoint", "--lora"})
"""Flags that mean other things elsewhere (`python -m`): they count where a model's file, or a path, follows."""
WITH_NAMES: Final = frozenset({"--lora-modules", "--lora-paths"})
"""Followed by any number of `name=path`."""
SERVE: Final = {"vllm": ("serve",), "sglang": ("serve",), "lmdeploy": ("serve", "api_server"), "llama-run": ()}
"""Programs that take a model as the first argument after these words."""
_PYTHON: Final = r"^(?:python|pypy)[\d.]*$"


class ArgumentModel(Record):
    """What one argument says."""

    flag: str
    """`--model`; empty for an argument without one."""
    value: str

    @property
    def is_path(self) -> bool:
        """Whether it is certainly a path, and no name in a hub."""
        return self.value.startswith(("/", "./", "../")) or has_model_suffix(self.value)


def models_in(command: Sequence[str]) -> tuple[ArgumentModel, ...]:
    """What the arguments name, each once, in their order."""
    found: dict[str, ArgumentModel] = {}
    for model in _models_in(_without_interpreter(list(command[:MOST_ARGUMENTS]))):
        if model.value and len(model.value) <= LONGEST and not model.value.isspace():
            found.setdefault(model.value, model)
    return tuple(found.values())[:MOST_MODELS]


def program_of(command: Sequence[str]) -> str:
    """What runs, in a word: `llama-server`, `vllm`; of Python the script or the module. Not safe to draw."""
    arguments = _without_interpreter(list(command[:MOST_ARGUMENTS]))
    if not arguments:
        arguments = list(command[:1])
    if not arguments:
        return ""
    # A title that a process gave itself is one argument: `nginx: worker process`.
    words = arguments[0].split() if len(arguments) == 1 else arguments[:1]
    return words[0].rstrip("/").rpartition("/")[2].rstrip(":") if words else ""


def _models_in(arguments: Sequence[str]) -> Iterator[ArgumentModel]:
    place = 1 + _words_before_model(arguments)
    if place > 1 or program_of(arguments) == "llama-run":
        first = next((one for one in arguments[place : place + 1] if not one.startswith("-")), None)
        if first is not None:
            yield ArgumentModel("", first)
            place += 1
    while place < len(arguments):
        argument = arguments[place]
        flag, equals, value = argument.partition("=")
        written = flag if flag.startswith("--") else argument
        name = written.replace("_", "-")
        place += 1
        if name in WITH_NAMES:
            while place < len(arguments) and not arguments[place].startswith("-"):
                yield ArgumentModel(written, arguments[place].partition("=")[2] or arguments[place])
                place += 1
        elif name in FLAGS or name in ONLY_FILES:
            if not equals:
                value = arguments[place] if place < len(arguments) else ""
                place += not value.startswith("-")
            model = ArgumentModel(written, value)
            if not value.startswith("-") and (name not in ONLY_FILES or model.is_path):
                yield model
        elif argument.startswith("-"):
            # What follows may be this flag's: nothing is said of it.
            place += not equals and place < len(arguments) and not arguments[place].startswith("-")
        elif is_model_file(argument):
            yield ArgumentModel("", argument)


def _words_before_model(arguments: Sequence[str]) -> int:
    """How many words after the program stand before its model; 0 where it takes none so."""
    words = SERVE.get(program_of(arguments), ())
    return len(words) if words and tuple(arguments[1 : 1 + len(words)]) == words else 0


def _without_interpreter(arguments: list[str]) -> list[str]:
    """The program and its arguments, without Python and its options: `-m` there is no model."""
    if not arguments or not re.match(_PYTHON, arguments[0].rpartition("/")[2]):
        return arguments
    place = 1
    while place < len(arguments) and arguments[place].startswith("-"):
        if arguments[place] in ("-m", "-c"):
            return arguments[place + 1 :] if arguments[place] == "-m" else ["python", *arguments[place + 2 :]]
        place += 2 if arguments[place] in ("-X", "-W") else 1
    return arguments[place:] or arguments[:1]
