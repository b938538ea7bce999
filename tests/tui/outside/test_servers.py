"""Tests of what servers say is loaded, asked only where the port is this process's, and on this machine only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from gpumodels_tui.outside import servers
from gpumodels_tui.outside.facts import KnownBy
from gpumodels_tui.outside.loopback import NotToldError, get
from gpumodels_tui.outside.servers import LLAMA_CPP, OLLAMA, VLLM, asked, kind_of
from loopback_servers import HOSTILE, serving

PS = json.dumps({"models": [{"name": "llama3.2:3b", "model": "llama3.2:3b", "size": 3, "size_vram": 3, "digest": "a80c"}]})
MODELS = json.dumps({"object": "list", "data": [{"id": "Qwen/Qwen3-8B", "root": "Qwen/Qwen3-8B", "max_model_len": 40960}]})
PROPS = json.dumps({"model_path": "/m/Qwen3-8B-Q4_K_M.gguf", "total_slots": 1, "default_generation_settings": {"n_ctx": 1}})
COMMANDS = {OLLAMA: ("ollama", "runner"), LLAMA_CPP: ("llama-server", "-m", "x"), VLLM: ("vllm", "serve", "x")}


@pytest.fixture
def only_port(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The one port on which every process listens, of all that this test's own process has open."""
    chosen: dict[str, int] = {}
    monkeypatch.setattr(servers, "ports_of", lambda pid, proc: (chosen["port"],) if chosen else ())
    return chosen


def told(kind: str, environment: Mapping[str, str] | None = None) -> list[str]:
    return [
        model.stated[0]
        for model in asked(os.getpid(), COMMANDS[kind], environment or {}, lambda port, path: get(port, path, 0.3))
    ]


@pytest.mark.parametrize(
    ("kind", "answers", "names"),
    [
        (LLAMA_CPP, {"/props": PROPS}, ["/m/Qwen3-8B-Q4_K_M.gguf"]),
        (LLAMA_CPP, {"/v1/models": MODELS}, ["Qwen/Qwen3-8B"]),
        (VLLM, {"/v1/models": MODELS}, ["Qwen/Qwen3-8B"]),
        (VLLM, {"/v1/models": '{"data": []}'}, []),
    ],
)
def test_each_server_is_asked_what_it_answers(
    only_port: dict[str, int], kind: str, answers: Mapping[str, str], names: list[str]
) -> None:
    with serving(answers) as (only_port["port"], _):
        assert told(kind) == names


def test_ollama_is_asked_at_the_port_that_its_variable_names_where_that_is_here() -> None:
    with serving({"/api/ps": PS}) as (port, paths):
        for stated in (f"127.0.0.1:{port}", f"http://localhost:{port}", f"0.0.0.0:{port}", f"[::]:{port}/", f":{port}"):
            (model,) = asked(os.getpid(), COMMANDS[OLLAMA], {"OLLAMA_HOST": stated})
            assert (model.known_by, model.stated) == (KnownBy.SERVER, ("llama3.2:3b",))
            assert model.said_by == f"ollama at 127.0.0.1:{port}"
    assert paths == ["/api/ps"] * 5


@pytest.mark.parametrize(
    "host", ["192.0.2.7:11434", "https://ollama.example", "[2001:db8::1]:11434", "10.0.0.1", "a b", "1:2:3", "x:99999"]
)
def test_another_machine_is_never_asked(host: str) -> None:
    def ask(port: int, path: str) -> bytes:
        raise AssertionError("asked")

    with pytest.raises(NotToldError, match="OLLAMA_HOST"):
        asked(os.getpid(), COMMANDS[OLLAMA], {"OLLAMA_HOST": host}, ask)


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.parametrize("kind", [OLLAMA, LLAMA_CPP, VLLM])
def test_a_hostile_server_says_nothing(only_port: dict[str, int], kind: str, how: str) -> None:
    with serving(how) as (port, _):
        only_port["port"] = port
        with pytest.raises(NotToldError, match=f"127.0.0.1:{port}: "):
            told(kind, {"OLLAMA_HOST": f"127.0.0.1:{port}"})


def test_a_server_whose_port_is_not_known_is_not_asked(only_port: dict[str, int]) -> None:
    for kind in (LLAMA_CPP, VLLM):
        with pytest.raises(NotToldError, match="port isn't known"):
            told(kind)


@pytest.mark.parametrize(
    ("command", "above", "answers"),
    [
        (("ollama", "runner"), ("ollama", "serve"), {"/api/ps": PS}),
        (("VLLM::EngineCore",), ("python", "/bin/vllm", "serve", "x"), {"/v1/models": MODELS}),
    ],
)
def test_a_worker_is_asked_at_the_port_of_what_started_it(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], above: tuple[str, ...], answers: Mapping[str, str]
) -> None:
    with serving(answers) as (port, _):
        monkeypatch.setattr(servers, "ports_of", lambda pid, proc: (port,) if pid == 50 else (1,))
        monkeypatch.setattr(servers, "parents_of", lambda pid, proc: iter([(40, ("sh", "-c")), (50, above)]))
        (model,) = asked(7, command, {})
    assert model.said_by.endswith(f"127.0.0.1:{port}")


def test_ollama_of_a_container_or_of_another_user_is_not_asked_for_this_one(tmp_path: Path) -> None:
    def ask(port: int, path: str) -> bytes:
        raise AssertionError("asked")

    (tmp_path / "7").mkdir()
    (tmp_path / "self" / "net").mkdir(parents=True)
    socket = "0: 0100007F:2CAA 00000000:0000 0A 0:0 0:0 0 998 0 99 1"
    (tmp_path / "self" / "net" / "tcp").write_text(f"head\n{socket}\n")
    for uid, numbers in ((1000, "7"), (998, "7\t1")):
        (tmp_path / "7" / "status").write_text(f"Name:\tollama\nUid:\t{uid}\t0\nNSpid:\t{numbers}\n")
        with pytest.raises(NotToldError, match="port isn't known"):
            asked(7, COMMANDS[OLLAMA], {}, ask, str(tmp_path))
    (tmp_path / "7" / "status").write_text("Name:\tollama\nUid:\t998\t0\nNSpid:\t7\n")
    (model,) = asked(7, COMMANDS[OLLAMA], {}, lambda port, path: PS.encode(), str(tmp_path))
    assert model.said_by == "ollama at 127.0.0.1:11434"


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (("/usr/bin/ollama", "runner", "--model", "x"), OLLAMA),
        (("llama-server",), LLAMA_CPP),
        (("/opt/llama.cpp/build/bin/llama-server", "-m", "x"), LLAMA_CPP),
        (("python", "-m", "llama_cpp.server"), LLAMA_CPP),
        (("/usr/bin/python3", "/usr/bin/vllm", "serve", "x"), VLLM),
        (("python", "-m", "vllm.entrypoints.openai.api_server"), VLLM),
        (("VLLM::EngineCore",), VLLM),
        (("python", "train.py"), None),
        (("postgres: vllm",), None),
        ((), None),
    ],
)
def test_only_these_servers_are_asked(command: tuple[str, ...], kind: str | None) -> None:
    assert kind_of(command) == kind
    if kind is None:
        assert asked(os.getpid(), command, {}, get) == ()
