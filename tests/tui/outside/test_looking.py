"""Tests of looking at real processes: what is found, how seldom it is read again, and processes that end meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpumodels_tui.outside import looking, servers
from gpumodels_tui.outside.facts import NOTHING, KnownBy, OutsideFacts, OutsideModel, Wanted
from gpumodels_tui.outside.looking import AGAIN_SECONDS, SOONEST_SECONDS, OutsideLooks, facts_of
from gpumodels_tui.outside.loopback import NotToldError
from gpumodels_tui.outside.process_files import NotSeenError
from loopback_servers import serving
from model_files import write_model
from model_readers import a_gguf_file, can_become_others, reading, seen_by_other_user
from snapshots import GIB
from work import counted


def seen(pid: int, command: tuple[str, ...] = ("x",)) -> list[tuple[str, str]]:
    facts = facts_of(Wanted(pid, command, GIB))
    return [(model.known_by.value, (model.files or model.stated)[0]) for model in facts.models]


def test_files_come_before_arguments_and_a_file_that_both_name_is_told_once(tmp_path: Path) -> None:
    path, lora = a_gguf_file(tmp_path / "m.gguf"), tmp_path / "gone.gguf"
    with reading("mapped", path) as pid:
        command = ("llama-server", "-m", os.path.relpath(path), "--lora", str(lora), "--model", "org/name")
        assert seen(pid, command) == [("mapped", str(path)), ("argument", str(lora)), ("argument", "org/name")]


def test_a_file_by_another_path_is_the_same_file(tmp_path: Path) -> None:
    path, link = a_gguf_file(tmp_path / "m.gguf"), tmp_path / "link.gguf"
    link.symlink_to(path)
    with reading("mapped", link) as pid:
        assert seen(pid, ("llama-server", "-m", str(link))) == [("mapped", str(path))]


def test_a_worker_has_the_arguments_of_what_started_it() -> None:
    program = f"import subprocess; subprocess.run([{sys.executable!r}, '-c', 'import sys; sys.stdin.read()'], stdin=0)"
    parent = subprocess.Popen(
        ["vllm", "-c", program, "--model", "Qwen/Qwen3-8B"], executable=sys.executable, stdin=subprocess.PIPE, text=True
    )
    assert parent.stdin is not None
    try:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        until = time.monotonic() + 10
        while not children.read_text() and time.monotonic() < until:
            time.sleep(0.01)
        pid = int(children.read_text())
        assert seen(pid, ("VLLM::EngineCore",)) == [("argument", "Qwen/Qwen3-8B")]
        assert seen(pid, ("python", "other.py")) == [], "what works for itself has its own arguments only"
    finally:
        parent.stdin.close()
        parent.wait(10)


@pytest.mark.skipif(not can_become_others(), reason="only root starts processes of others")
def test_of_another_users_process_the_arguments_are_known_and_why_nothing_else(tmp_path: Path) -> None:
    with reading("mapped", write_model(tmp_path / "m.gguf")) as pid:
        known = "[('argument', ('/m/m.gguf',), False)] owned by another user: run as root or that user"
        assert seen_by_other_user(pid, "llama-server", "-m", "/m/m.gguf") == known


class Reads:
    """Counts how often a process's files are read."""

    def __init__(self) -> None:
        self.count = 0
        self.now = 1000.0

    def __call__(self, wanted: Wanted) -> OutsideFacts:
        self.count += 1
        return OutsideFacts((OutsideModel(KnownBy.ARGUMENT, stated=("m",)),))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    reads = Reads()
    monkeypatch.setattr(looking, "facts_of", reads)
    return reads


def test_a_process_is_read_again_when_its_bytes_change_else_every_ten_seconds(reads: Reads) -> None:
    looks = OutsideLooks(clock=lambda: reads.now)
    pid = os.getpid()

    def after(seconds: float, used_bytes: int) -> int:
        reads.now += seconds
        looks.look_now([Wanted(pid, ("x",), used_bytes)])
        return reads.count

    assert after(0, GIB) == 1
    assert after(AGAIN_SECONDS - 1, GIB) == 1
    assert after(1, GIB) == 2
    assert after(SOONEST_SECONDS - 1, 2 * GIB) == 2
    assert after(1, 2 * GIB) == 3
    assert after(1, 2 * GIB) == 3


def test_equal_facts_stay_the_same_object_and_those_of_others_are_forgotten(reads: Reads) -> None:
    looks = OutsideLooks(clock=lambda: reads.now)
    own, parent = Wanted(os.getpid(), ("x",), GIB), Wanted(os.getppid(), ("x",), GIB)
    first = looks.look_now([own, parent])
    reads.now += AGAIN_SECONDS
    second = looks.look_now([own])
    assert second.keys() == {own.pid}
    assert second[own.pid] is first[own.pid]


def test_a_process_that_ends_meanwhile_is_not_told_of_as_another_one(monkeypatch: pytest.MonkeyPatch, reads: Reads) -> None:
    ticks = iter([5, 6])
    monkeypatch.setattr(looking, "start_ticks", lambda pid: next(ticks))
    assert OutsideLooks().look_now([Wanted(7, ("x",), GIB)]) == {}
    monkeypatch.setattr(looking, "start_ticks", lambda pid: None)
    assert OutsideLooks().look_now([Wanted(7, ("x",), GIB)]) == {7: NOTHING}


def test_a_process_that_ends_while_it_is_read_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(pid: int, proc: str) -> tuple[OutsideModel, ...]:
        raise ProcessLookupError

    monkeypatch.setattr(looking, "models_of", gone)
    assert facts_of(Wanted(os.getpid(), ("llama-server", "--model", "x"), GIB)) == NOTHING


def test_another_thread_looks_and_polling_meanwhile_reads_nothing(tmp_path: Path) -> None:
    with reading("mapped", a_gguf_file(tmp_path / "m.gguf")) as pid:
        looks, wanted = OutsideLooks(), [Wanted(pid, ("x",), GIB)]
        try:
            until(lambda: pid in looks.see(wanted))
            before = looks.see(wanted)
            with counted() as work:
                assert looks.see(wanted) == before
            assert (work.bytes_read, work.steps < 60) == (0, True), work
        finally:
            looks.stop()
    assert [model.files[0] for model in before[pid].models] == [str(tmp_path / "m.gguf")]


def test_what_hangs_in_the_kernel_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(looking, "facts_of", lambda wanted: (release.wait(10) and NOTHING) or NOTHING)
    looks = OutsideLooks()
    monkeypatch.setattr(looking, "PATIENCE_SECONDS", 0.1)
    begun = time.monotonic()
    try:
        assert looks.see([Wanted(os.getpid(), ("x",), GIB)]) == {}
        looks.stop()
        assert OutsideLooks().look_now([Wanted(os.getpid(), ("x",), GIB)]) == {}
        assert time.monotonic() - begun < 5
    finally:
        release.set()


def until(condition: Callable[[], bool]) -> None:
    """Wait for it, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nobody_is_asked_unless_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Wanted(os.getpid(), ("llama-server", "-m", "/m/a.gguf"), GIB)
    with serving({"/props": '{"model_path": "/m/a.gguf"}', "/v1/models": "{}"}) as (port, asked):
        monkeypatch.setattr(servers, "ports_of", lambda pid, proc: (port,))
        OutsideLooks().look_now([wanted])
        assert asked == []
        (one,) = OutsideLooks(ask_servers=True).look_now([wanted])[wanted.pid].models
        assert asked == ["/props"]
    assert one.known_by is KnownBy.ARGUMENT, "the server's word adds nothing to what is known"


def with_server(
    monkeypatch: pytest.MonkeyPatch, facts: OutsideFacts, *told: str | NotToldError, runners: int = 1
) -> OutsideFacts:
    def asked(pid: int, command: tuple[str, ...]) -> tuple[OutsideModel, ...]:
        if told and isinstance(told[0], NotToldError):
            raise told[0]
        return tuple(OutsideModel(KnownBy.SERVER, stated=(str(name),), said_by="ollama") for name in told)

    monkeypatch.setattr(looking, "facts_of", lambda wanted: facts)
    monkeypatch.setattr(looking, "asked", asked)
    monkeypatch.setattr(looking, "start_ticks", lambda pid: pid)
    wanted = [Wanted(pid, ("ollama", "runner"), GIB) for pid in range(2, 2 + runners)]
    return OutsideLooks(ask_servers=True).look_now(wanted)[2]


BLOB = OutsideModel(KnownBy.MAPPED, ("/o/blobs/sha256-" + "a" * 64,), ("llama3.2:3b", "mine:latest"))


def test_ollama_decides_between_models_that_share_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    (model,) = with_server(monkeypatch, OutsideFacts((BLOB,)), "mine:latest", "other:7b", runners=2).models
    assert (model.known_by, model.stated) == (KnownBy.MAPPED, ("mine:latest",))


def test_of_several_models_of_ollama_none_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, runners in ((("a", "b"), 1), (("a",), 2)):
        facts = with_server(monkeypatch, NOTHING, *told, runners=runners)
        assert facts.models == ()
        assert "several" in facts.not_said or runners == 2
    assert [one.stated for one in with_server(monkeypatch, NOTHING, "a").models] == [("a",)]


def test_a_server_that_tells_nothing_costs_no_other_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = with_server(monkeypatch, OutsideFacts((BLOB,), "why"), NotToldError("127.0.0.1:1: it wants a key"))
    assert (facts.models, facts.unread, facts.not_said) == ((BLOB,), "why", "127.0.0.1:1: it wants a key")


def test_files_that_may_not_be_seen_leave_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, proc: str) -> tuple[OutsideModel, ...]:
        raise NotSeenError("owned by another user: run as root or that user")

    monkeypatch.setattr(looking, "models_of", refused)
    facts = facts_of(Wanted(os.getpid(), ("llama-server", "--model", "org/n"), None))
    assert (facts.models[0].stated, facts.unread) == (("org/n",), "owned by another user: run as root or that user")
