"""What a configuration file says, and what is said of its mistakes: file, line and key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpumodels_tui.settings.config_file import ConfigFile, line_of, read_config
from gpumodels_tui.settings.table import all_options
from samples_of_options import bad

OPTIONS = tuple(all_options())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def read(config: Path) -> ConfigFile:
    return read_config(config, OPTIONS)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("theme = [", "line 1: theme: invalid value; the file is ignored"),
        ("theme = 'dark'\ntheme = 'dark'", "line 2: theme: cannot overwrite a value; the file is ignored"),
        ("theme = 'dark'\n\nascii = yes\n", "line 3: ascii: invalid value; the file is ignored"),
        ("\n\n[metrics\n", "line 3: expected"),
        ("models = 3.5\ntheme = 7", "line 2: theme must be one of terminal, dark"),
        ("\n\nmodels = [\n'/a',\n[3]]", "line 3: models must be a directory, or a list of such; it is ignored"),
        ("theme = true", "line 1: theme must be one of terminal, dark"),
        ("ascii = 'yes'", "line 1: ascii must be true or false"),
        ("\nintervall = 2", "line 2: intervall is no option (did you mean interval?); it is ignored"),
        ("[metrics]\n\nwith_pid = true", "line 3: metrics.with_pid is no option (did you mean metrics.with-pid?)"),
        ("listen = ':1'", "line 1: listen is no option (did you mean metrics.listen?)"),
        ("[metrics]\ntheme = 'dark'", "line 2: metrics.theme is no option (did you mean theme?)"),
        ("[metrcis]\ntop = 3", "line 1: metrcis is no option (did you mean metrics"),
        ("metrics = 3", "line 1: metrics is no option"),
        ("zzz = 1", "line 1: zzz is no option; it is ignored"),
        ("[metrics]\nunix = '/u'\ntextfile = '/t'", "metrics.textfile excludes metrics.unix"),
        ("interval = 1979-05-27", "line 1: interval must be a number of seconds"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_key(config: Path, content: str, problem: str) -> None:
    config.write_text(content)
    (said,) = read(config).problems
    assert said.startswith(f"{config}: ")
    assert problem in said


@pytest.mark.parametrize("content", [b'theme = "\xff"', b"a = " + b"[" * 50_000, b"theme = 'dark'\n" + b"#" * 70_000])
def test_a_file_that_cannot_be_understood_is_left_out(config: Path, content: bytes) -> None:
    config.write_bytes(content)
    found = read(config)
    assert found.values == {}
    (said,) = found.problems
    assert said.startswith(f"{config}: ")
    assert said.endswith("the file is ignored")


def test_a_mistake_costs_only_its_own_key(config: Path) -> None:
    config.write_text("theme = 'dark'\nintervall = 2\nascii = true\n[metrics]\ntop = -1\n")
    found = read(config)
    assert found.values == {("theme",): "dark", ("ascii",): True}
    assert len(found.problems) == 2


def test_values_that_are_no_option_of_any_kind_are_told_for_every_option(config: Path) -> None:
    for option in OPTIONS:
        if bad(option.kind) is None:
            continue
        config.write_text(f'[{option.command}]\n{option.name} = "nonsense"' if option.command else f'{option.name} = "nonsense"')
        (said,) = read(config).problems
        assert f"line {2 if option.command else 1}: {'.'.join(option.key)} must be " in said


@pytest.mark.parametrize("content", ["", "models = []", "models = ''", "# theme = 'dark'", "[metrics]"])
def test_a_file_that_says_nothing_is_no_problem(config: Path, content: str) -> None:
    config.write_text(content)
    found = read(config)
    assert found.problems == ()
    assert not any(found.values.values())


def test_a_missing_file_is_no_problem(config: Path) -> None:
    assert read(config) == ConfigFile(config)
    assert read(config / "below" / "config.toml").is_there is False


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("theme = 1", 1),
        ("# theme = 2\ntheme = 1", 2),
        ("a = '''\ntheme = 2\n'''\ntheme = 1", 4),
        ("a = [\n'theme',\n]\n\ntheme = [\n1,\n2\n]", 5),
        ('"theme" = 1', 1),
        ('a = 1\n"th\\u0065me" = 1', 2),
        ("[x]\ntheme = 2\n[y]\na = 1", 1),
    ],
)
def test_the_line_of_a_key_is_where_it_begins(text: str, line: int) -> None:
    assert line_of(text, ("theme",)) == line


def test_the_line_of_a_key_of_a_section_is_found_in_every_notation() -> None:
    assert line_of("[x]\ntop = 2\n[metrics]\na = 1\ntop = 1", ("metrics", "top")) == 5
    assert line_of("a = 1\nmetrics.top = 1", ("metrics", "top")) == 2
    assert line_of("a = 1\nmetrics = { top = 1 }", ("metrics", "top")) == 2


def test_a_file_of_another_user_or_that_others_can_write_is_left_out(config: Path) -> None:
    config.write_text("theme = 'dark'")
    config.chmod(0o646)
    assert read(config).problems == (f"{config}: can be written by others; the file is ignored",)
    config.chmod(0o644)
    assert read(config).problems == ()
    if os.geteuid() == 0:
        os.chown(config, 4711, 4711)
        assert read(config).values == {}
        assert read(config).problems == (f"{config}: belongs to uid 4711, neither to us nor to root; the file is ignored",)


def test_what_is_no_file_is_not_waited_for(config: Path) -> None:
    os.mkfifo(config)
    assert read(config).problems == (f"{config}: not a regular file; the file is ignored",)
    config.unlink()
    config.mkdir()
    assert read(config).problems == (f"{config}: is a directory; the file is ignored",)


def test_a_file_that_is_linked_to_is_read(config: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles.toml").write_text("theme = 'dark'")
    config.symlink_to(tmp_path / "dotfiles.toml")
    assert read(config).values == {("theme",): "dark"}
