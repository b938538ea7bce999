"""What ollama, llama.cpp and vLLM say that they have loaded, asked on this machine only, and only where the user wants it."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from msgspec import Struct, field

from gpumodels_tui.outside.arguments import program_of
from gpumodels_tui.outside.facts import KnownBy, OutsideModel
from gpumodels_tui.outside.listening import is_of_owner, ports_of
from gpumodels_tui.outside.loopback import HOST, NotToldError, RefusedError, get
from gpumodels_tui.outside.parents import is_worker, parents_of

OLLAMA: Final = "ollama"
LLAMA_CPP: Final = "llama.cpp"
VLLM: Final = "vLLM"
OLLAMA_PORT: Final = 11434
MOST_PORTS: Final = 4
MOST_MODELS: Final = 16
LONGEST: Final = 1000


class _Running(Struct):
    name: str = ""
    model: str = ""


class _Ollama(Struct):
    models: list[_Running] = field(default_factory=list)


class _Props(Struct):
    model_path: str = ""


class _Listed(Struct):
    id: str = ""
    root: str | None = None


class _Models(Struct):
    data: list[_Listed] = field(default_factory=list)


Answer = TypeVar("Answer")
Get = Callable[[int, str], bytes]


def kind_of(command: Sequence[str]) -> str | None:
    """Which of the three servers runs by this command; None for any other program, which is never asked."""
    program = program_of(command).lower()
    if program == "ollama" or program.startswith(("ollama-", "ollama_")):
        return OLLAMA
    if program in ("llama-server", "llama-server.exe", "llamafile", "llama_cpp.server") or program.endswith("llama-server"):
        return LLAMA_CPP
    return VLLM if program == "vllm" or program.startswith(("vllm.", "vllm::", "vllm:")) else None


def asked(
    pid: int, command: Sequence[str], environment: Mapping[str, str] = os.environ, ask: Get = get, proc: str = "/proc"
) -> tuple[OutsideModel, ...]:
    """What its server says that is loaded; empty for a process that is no such server's.

    Raises:
        NotToldError: it told nothing, for this reason.
    """
    kind = kind_of(command)
    if kind is None:
        return ()
    ports = list(ports_of(pid, proc))
    if kind == OLLAMA or is_worker(command):  # it works for a server that has the port
        ports = [
            port for parent, above in parents_of(pid, proc) if kind_of(above) == kind for port in ports_of(parent, proc)
        ] or ([] if kind == OLLAMA else ports)
    if kind == OLLAMA and not ports:
        ports = [port for port in [_ollama_port(environment)] if is_of_owner(port, pid, proc)]
    if not ports:
        raise NotToldError("its port isn't known: it listens on none of this machine's, or is another user's")
    reasons: list[str] = []
    for port in ports[:MOST_PORTS]:
        try:
            names = _QUESTIONS[kind](port, ask)
        except NotToldError as error:
            reasons.append(f"{HOST}:{port}: {error}")
            continue
        said_by = f"{kind} at {HOST}:{port}"
        unique = [name for name in dict.fromkeys(names) if name and len(name) <= LONGEST][:MOST_MODELS]
        return tuple(OutsideModel(KnownBy.SERVER, stated=(name,), said_by=said_by) for name in unique)
    raise NotToldError("; ".join(reasons))


def _ollama_port(environment: Mapping[str, str]) -> int:
    """The port of `OLLAMA_HOST` where that is this machine's; else nobody is asked.

    Raises:
        NotToldError: it names another machine.
    """
    stated = environment.get("OLLAMA_HOST", "").strip().strip("\"'")
    text = re.sub(r"^[a-z]+://", "", stated).partition("/")[0]
    found = re.fullmatch(r"(\[[0-9a-fA-F:]*\]|[^:\[\]]*)(?::(\d{1,5}))?", text)
    if found is None:
        raise NotToldError("OLLAMA_HOST isn't understood")
    host, port = found[1].strip("[]"), int(found[2]) if found[2] else OLLAMA_PORT
    try:
        is_ours = host in ("", "localhost") or (address := ipaddress.ip_address(host)).is_loopback or address.is_unspecified
    except ValueError:
        is_ours = False
    if not is_ours or not 0 < port < 65536:
        raise NotToldError("OLLAMA_HOST names another machine, which isn't asked")
    return port


def _of_ollama(port: int, ask: Get) -> list[str]:
    return [one.name or one.model for one in _decoded(ask(port, "/api/ps"), _Ollama).models]


def _of_llama_cpp(port: int, ask: Get) -> list[str]:
    try:
        path = _decoded(ask(port, "/props"), _Props).model_path
    except RefusedError:
        path = ""
    return [path] if path else _listed(port, ask)


def _listed(port: int, ask: Get) -> list[str]:
    return [one.id for one in _decoded(ask(port, "/v1/models"), _Models).data]


_QUESTIONS: Final[Mapping[str, Callable[[int, Get], list[str]]]] = {OLLAMA: _of_ollama, LLAMA_CPP: _of_llama_cpp, VLLM: _listed}


def _decoded(body: bytes, kind: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise NotToldError("its answer isn't understood") from error
