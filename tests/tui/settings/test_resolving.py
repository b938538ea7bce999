"""Flag, environment, the user's file, the machine's file, default: in that order, for every option of the table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpumodels_tui.settings.config_file import read_config
from gpumodels_tui.settings.option import Option
from gpumodels_tui.settings.parser import parser
from gpumodels_tui.settings.resolving import DEFAULT, FLAG, Settings, VariableError, resolve
from gpumodels_tui.settings.table import COMMANDS, all_options
from samples_of_options import bad, good

OPTIONS = tuple(all_options())


def flags(option: Option, text: str) -> list[str]:
    """The command line that gives the option this value."""
    flag = [f"--{'' if text == 'true' else 'no-'}{option.name}"] if option.kind.is_switch else [f"--{option.name}", text]
    return [*([option.command] if option.command else []), *flag]


def stated(option: Option, text: str) -> str:
    """The file that gives the option this value."""
    value = text if option.kind.is_switch else f'"{text}"'
    return f"# a comment\n[{option.command}]\n{option.name} = {value}\n" if option.command else f"\n{option.name} = {value}\n"


def given(option: Option, arguments: list[str]) -> argparse.Namespace:
    command = next((command for command in COMMANDS if command.name == option.command), None)
    required = [(*one.kind.choices, "word")[0] for one in command.arguments if not one.is_optional] if command is not None else []
    return parser().parse_args([*(arguments or ([option.command] if option.command else [])), *required])


def resolved(
    folder: Path, option: Option, arguments: list[str], environment: Mapping[str, str], users: str = "", machines: str = ""
) -> Settings:
    files = []
    for name, content in (("user.toml", users), ("machine.toml", machines)):
        (folder / name).write_text(content)
        files.append(read_config(folder / name, OPTIONS))
    return resolve(given(option, arguments), environment, files)


def texts(option: Option) -> tuple[str, str, str, str]:
    """A text for each place; a switch and a short list of choices have fewer than four values."""
    one, two, three, four, *_ = good(option) * 4
    return one, two, three, four


def value(option: Option, text: str) -> object:
    return (option.kind.read(text),) if option.repeats else option.kind.read(text)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: ".".join(option.key))
def test_each_place_stands_above_the_next(option: Option, tmp_path: Path) -> None:
    flag, variable, users, machines = texts(option)
    user_file, machine_file = stated(option, users), stated(option, machines)
    environment = {option.in_environment: variable}

    def setting(arguments: list[str], environment: Mapping[str, str], *files: str) -> tuple[object, str]:
        found = resolved(tmp_path, option, arguments, environment, *files).settings[option.key]
        return found.value, found.origin

    assert setting(flags(option, flag), environment, user_file, machine_file) == (value(option, flag), FLAG)
    assert setting([], environment, user_file, machine_file) == (value(option, variable), option.in_environment)
    line = 3 if option.command else 2
    assert setting([], {}, user_file, machine_file) == (value(option, users), f"{tmp_path}/user.toml:{line}")
    assert setting([], {}, "", machine_file) == (value(option, machines), f"{tmp_path}/machine.toml:{line}")
    assert setting([], {}) == (option.unset, DEFAULT)
    assert setting([], {option.in_environment: ""}) == (option.unset, DEFAULT), "an empty variable says nothing"


@pytest.mark.parametrize("option", [one for one in OPTIONS if one.kind.is_switch], ids=lambda option: ".".join(option.key))
def test_a_switch_can_be_turned_off_above_a_place_where_it_is_on(option: Option, tmp_path: Path) -> None:
    on, off = stated(option, "true"), stated(option, "false")
    assert resolved(tmp_path, option, flags(option, "false"), {}, on).settings[option.key].value is False
    assert resolved(tmp_path, option, [], {option.in_environment: "0"}, on).settings[option.key].value is False
    assert resolved(tmp_path, option, [], {}, off, on).settings[option.key].value is False


def test_of_options_that_exclude_each_other_one_in_a_stronger_place_hides_all_in_weaker_ones(tmp_path: Path) -> None:
    listen, unix, textfile = (next(one for one in OPTIONS if one.name == name) for name in ("listen", "unix", "textfile"))
    found = resolved(tmp_path, unix, ["metrics", "--listen", "[::1]:1"], {}, '[metrics]\nunix = "/u"\n')
    assert found.settings[listen.key].value == "[::1]:1"
    assert found.settings[unix.key].origin == DEFAULT
    found = resolved(tmp_path, unix, ["metrics"], {textfile.in_environment: "/t"}, '[metrics]\nunix = "/u"\n')
    assert [found.settings[one.key].value for one in (unix, textfile)] == [None, "/t"]


def test_the_flag_of_another_command_of_the_same_name_says_nothing() -> None:
    settings = resolve(argparse.Namespace(command="record", top=3), {}, [])
    assert settings.settings["metrics", "top"].origin == DEFAULT


def test_a_command_gets_its_own_options_and_those_of_all_but_not_those_of_others() -> None:
    arguments = parser().parse_args(["metrics"])
    complete = resolve(arguments, {}, []).arguments(arguments)
    assert (complete.listen, complete.models, complete.theme) == ("127.0.0.1:9477", (), "terminal")
    arguments = parser().parse_args([])
    assert not hasattr(resolve(arguments, {}, []).arguments(arguments), "listen")


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: ".".join(option.key))
def test_a_variable_that_makes_no_sense_is_named(option: Option, tmp_path: Path) -> None:
    if (text := bad(option.kind)) is None:
        return
    with pytest.raises(VariableError, match=f"^{option.in_environment}: '{text}' is not {option.kind.expects[:10]}"):
        resolved(tmp_path, option, [], {option.in_environment: text})


def test_lists_are_replaced_as_a_whole(tmp_path: Path) -> None:
    models = next(one for one in OPTIONS if one.name == "models")
    found = resolved(tmp_path, models, ["--models", "/a", "--models", "/b"], {}, 'models = ["/c", "/d"]')
    assert found.settings["models",].value == ("/a", "/b")
    found = resolved(tmp_path, models, [], {"GPUMODELS_MODELS": "/e::/f"}, 'models = ["/c", "/d"]')
    assert found.settings["models",].value == ("/e", "/f")
    assert resolved(tmp_path, models, [], {}, 'models = ["/c", "", "/d"]').settings["models",].value == ("/c", "/d")
