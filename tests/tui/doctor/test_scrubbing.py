"""What is nobody else's business is taken out, and the rest is left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpumodels_tui.doctor.scrubbing import Scrubber, argument_values, scrubber_for
from snapshots import a_feed, a_model, a_process, a_process_state, a_snapshot


@pytest.fixture
def scrubber() -> Scrubber:
    return Scrubber(
        ["/home/ada", "/srv/people/ada/", "/"],
        ["ada", "root", ""],
        ["gpu-7.example.org", "gpu-7"],
        ["hunter2", "cuda", "x"],
        ["5e3r"],
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/ada/models/wan.safetensors", "~/models/wan.safetensors"),
        ("/srv/people/ada/x", "~/x"),
        ("/home/grace/x and /Users/alan: no", "~/x and ~: no"),
        ("/root/ComfyUI, /root", "~/ComfyUI, ~"),
        ("/rooted/x", "/rooted/x"),
        ("of ada, Ada's, ada_2 and adapter", "of <user>, <user>'s, <user>_2 and adapter"),
        ("root may", "root may"),
        ("on GPU-7 or gpu-7.example.org", "on <host> or <host>"),
        ("--password=hunter2 hunter22", "--password=<argument> hunter22"),
        ("cuda:0", "cuda:0"),
        ("a5e3rb", "a<secret>b"),
        ("hf_abcdefghijklmnop", "<secret>"),
        ("https://me:pass@hub/x?token=abc&a=1", "https://<secret>@hub/x?<secret>&a=1"),
        ("10.1.2.3:9477 and fe80:0:0:1:2:3:4:5", "<address>:9477 and <address>"),
        ("12:34:56", "12:34:56"),
        ("Wan2_2-T2V-A14B-HIGH, torch 2.13.0+cu130", "Wan2_2-T2V-A14B-HIGH, torch 2.13.0+cu130"),
    ],
)
def test_each_is_replaced_where_it_stands_and_nowhere_else(scrubber: Scrubber, text: str, left: str) -> None:
    assert scrubber.text(text) == left


def test_texts_are_found_at_any_depth(scrubber: Scrubber) -> None:
    value = {"ada": ["/home/ada", 1, None, {"x": ("gpu-7", True)}]}
    assert scrubber.value(value) == {"<user>": ["~", 1, None, {"x": ["<host>", True]}]}


def test_where_nothing_is_known_the_text_stays() -> None:
    assert Scrubber([], [], [], [], []).text("a text") == "a text"


def test_arguments_are_values_and_not_options_or_the_scripts_name() -> None:
    command = ("python", "-X", "/w/main.py", "--listen", "0.0.0.0", "--key=abc", "prompt")
    assert list(argument_values(command)) == ["/w/main.py", "0.0.0.0", "abc", "prompt"]
    assert list(argument_values(("python", "main.py"))) == []


def test_it_knows_this_user_this_machine_and_what_processes_were_called_with() -> None:
    info = a_process(command=("python", "main.py", "--key", "planted-argument"))
    feed = a_feed(a_process_state(a_snapshot(a_model(), process=info), user="grace"))
    knows = scrubber_for(feed, {"MY_API_TOKEN": "planted-secret", "USER": "alan", "HOSTNAME": "node17", "HOME": "/data/alan"})
    text = f"grace alan node17 {os.uname().nodename} planted-argument planted-secret /data/alan/x {Path.home()}/y"
    assert knows.text(text) == "<user> <user> <host> <host> <argument> <secret> ~/x ~/y"
