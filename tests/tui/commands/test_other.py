"""The command `other`, on real processes: in host memory, and on the simulated accelerator."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accelerator import simulated_device
from gpumodels_shared.asks import ask_name, new_nonce
from gpumodels_shared.places import snapshot_files, write_new
from gpumodels_tui import cli
from gpumodels_tui.sources.asking import ask_other
from hosts import Host, a_host
from processes import wait_until

pytestmark = pytest.mark.slow

MIB = 1024**2

ON_HOST = """
import gpumodels, torch
from torch import nn
class Unet(nn.Sequential): pass
unet = Unet(nn.Linear(256, 256), nn.Linear(256, 256))
unet(torch.ones(1, 256)).sum().backward()
optimizer = torch.optim.Adam(unet.parameters())
optimizer.step()
cache = [torch.zeros(2048, 1024, dtype=torch.float16) for _ in range(5)]
views = [one[:3] for one in cache]
gpumodels.start()
"""

ON_ACCELERATOR = """
import gpumodels, torch
from torch import nn
from accelerator import simulated_device
device = simulated_device.attach()
class Unet(nn.Sequential): pass
unet = Unet(nn.Linear(1024, 1024), nn.Linear(1024, 1024)).to("npu:0")
def made(mib, dtype=torch.uint8):
    return torch.empty(mib << 20, dtype=dtype, device="npu:0")
gpumodels.start()
"""

needs_accelerator = pytest.mark.skipif(simulated_device.unavailable() is not None, reason=str(simulated_device.unavailable()))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = tmp_path_factory.mktemp("other") / "own"
    own.mkdir(mode=0o700)
    return own


@pytest.fixture(scope="module")
def host(directory: Path) -> Iterator[Host]:
    with a_host(directory) as one:
        one.tell(ON_HOST)
        one.models_when(lambda models: any(model.class_name == "Unet" for model in models))
        yield one


@pytest.fixture(scope="module")
def accelerated(directory: Path) -> Iterator[Host]:
    with a_host(directory, environment={"PYTHONPATH": os.pathsep.join(sys.path)}) as one:
        one.tell(ON_ACCELERATOR)
        one.models_when(lambda models: any("npu:0" in model.bytes_by_device for model in models))
        yield one


@pytest.fixture(autouse=True)
def _of_this_directory(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUMODELS_DIR", str(directory))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def answered(host: Host, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert cli.main(["other", "--json", "--pid", str(host.pid)]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def on(document: dict[str, Any], device: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in document["devices"] if one["device"] == device)
    return found


def test_only_what_no_model_holds_is_counted_once(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    cpu = on(answered(host, capsys), "cpu")
    assert [group for group in cpu["groups"] if group["dtype"] == "float16"] == [
        {"dtype": "float16", "at_least_bytes": MIB, "kind": "tensor", "count": 5, "size_bytes": 20 * MIB}
    ]
    assert cpu["tensors_bytes"] < 21 * MIB  # neither weights, nor gradients, nor the optimizer's state
    assert cpu["gradients_bytes"] > 0
    assert cpu["optimizer_bytes"] > 0
    (first, *_) = cpu["largest"]
    assert (first["dtype"], first["shape"]) == ("float16", [2048, 1024])
    assert "cache" in first["held_by"]


def test_people_read_what_it_is_and_what_it_cost(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["other", "--pid", str(host.pid)]) == 0
    said = capsys.readouterr()
    assert "that no model holds" in said.out
    assert "5 × float16, 1 to 64 MB each" in said.out
    assert "the interpreter was held for" in said.out
    assert "searching; this holds the process's interpreter for about" in said.err


@needs_accelerator
def test_after_an_unload_each_byte_has_a_reason(accelerated: Host, capsys: pytest.CaptureFixture[str]) -> None:
    accelerated.tell("kept = [made(16), made(3)]; freed = made(40); part = made(1)[:4].clone(); unet = None; freed = None")
    accelerated.tell("device.use_pool(7); graph = made(8); device.use_pool(0)")
    accelerated.tell("import gc; gc.collect()")
    accelerated.wait_for_ticks(2)
    document = answered(accelerated, capsys)
    npu = on(document, "npu:0")
    stats = accelerated.tell("device.memory_stats(0)")
    assert npu["allocated_bytes"] == npu["other_bytes"] == stats["allocated_bytes.all.current"]
    assert (npu["models_bytes"], npu["unseen_bytes"]) == (0, 0)
    assert npu["tensors_bytes"] == npu["other_bytes"]
    allocator = npu["allocator"]
    assert (allocator["pools"], allocator["pools_reserved_bytes"], allocator["pools_allocated_bytes"]) == (1, 8 * MIB, 8 * MIB)
    before = stats["reserved_bytes.all.current"]
    after = accelerated.tell("device.empty_cache() or device.memory_reserved(0)")
    assert allocator["returnable_bytes"] == before - after > 40 * MIB
    assert {tuple(one["shape"]): one["held_by"] for one in npu["largest"]}[16 * MIB,] is not None


@needs_accelerator
def test_memory_without_a_tensor_in_python_is_told_apart(accelerated: Host, capsys: pytest.CaptureFixture[str]) -> None:
    accelerated.tell("w = torch.ones(2 << 20, device='npu:0', requires_grad=True); loss = (w * 2).exp().exp().sum()")
    accelerated.wait_for_ticks(2)
    npu = on(answered(accelerated, capsys), "npu:0")
    assert npu["unseen_bytes"] >= 16 * MIB  # the results of both exp, which only autograd's graph holds
    assert npu["unseen"]["blocks_bytes"] == npu["unseen_bytes"]
    accelerated.tell("del loss, w")
    accelerated.wait_for_ticks(2)
    assert on(answered(accelerated, capsys), "npu:0")["unseen_bytes"] == 0


@needs_accelerator
def test_asking_does_nothing_on_the_device_and_keeps_nothing(accelerated: Host, capsys: pytest.CaptureFixture[str]) -> None:
    accelerated.tell("import weakref; one = made(32); gone = weakref.ref(one.untyped_storage())")
    accelerated.wait_for_ticks(2)
    before = accelerated.tell("[device.counts(), device.memory_stats(0)]")
    assert on(answered(accelerated, capsys), "npu:0")["tensors"] > 0
    assert accelerated.tell("[device.counts(), device.memory_stats(0)]") == before
    accelerated.tell("del one")
    assert accelerated.tell("gone() is None") is True


def test_a_busy_process_answers_and_goes_on(host: Host) -> None:
    """It allocates and frees without a pause while it is asked again and again."""
    file = next(
        Path(os.environ["GPUMODELS_DIR"]) / name
        for name in snapshot_files(Path(os.environ["GPUMODELS_DIR"]))
        if name.startswith(f"{host.pid}-")
    )
    answers: list[int] = []

    def ask() -> None:
        for _ in range(4):
            answers.append(ask_other(file).tensors)
            time.sleep(1)

    asking = threading.Thread(target=ask)
    asking.start()
    steps = 0
    while asking.is_alive():
        steps += host.tell("sum(int(torch.ones(64, 64).matmul(torch.ones(64, 64))[0, 0]) for _ in range(500)) // 64")
    asking.join()
    assert len(answers) == 4
    assert min(answers) > 5
    assert steps > 0
    assert steps % 500 == 0
    health = host.snapshot().health
    assert health.failures == 0


def test_what_is_no_question_is_removed_and_counted(host: Host) -> None:
    directory = Path(os.environ["GPUMODELS_DIR"])
    file = next(name for name in snapshot_files(directory) if name.startswith(f"{host.pid}-"))
    before = host.snapshot().health.ignored_asks
    names = [ask_name(file, new_nonce()) for _ in range(3)]
    for name, content in zip(names, (b'{"schema": 1, "ask": "other", "model": "m1"}', b"\xff" * 4000, b"["), strict=True):
        write_new(directory, name, content, {os.geteuid()})
    wait_until(lambda: not any((directory / name).exists() for name in names))
    host.tell("another = Unet(nn.Linear(300, 300))")  # a snapshot is written when something has changed
    wait_until(lambda: host.snapshot().health.ignored_asks == before + 3)


def test_which_process_is_asked(
    host: Host, accelerated: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["other"]) == 2
    said = capsys.readouterr().err
    assert "more than one process runs with a sidecar" in said
    assert f"--pid {host.pid}" in said
    assert f"--pid {accelerated.pid}" in said
    assert cli.main(["other", "--pid", "one"]) == 2
    assert "--pid one: not the number of a process" in capsys.readouterr().err
    assert cli.main(["other", "--pid", "1"]) == 2
    assert "no such process runs with a sidecar" in capsys.readouterr().err
    (tmp_path / "empty").mkdir(mode=0o700)
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path / "empty"))
    assert cli.main(["other"]) == 2
    assert "no process runs with a sidecar" in capsys.readouterr().err


def test_a_process_that_does_not_answer_is_not_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path / "own"))
    with a_host(tmp_path / "own", "import gpumodels; gpumodels.start()", {"GPUMODELS_ASK": "0"}) as quiet:
        quiet.wait_for_ticks(1)
        assert cli.main(["other"]) == 1
        assert "GPUMODELS_ASK=0 is set there" in capsys.readouterr().err


def test_before_torch_is_imported_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPUMODELS_DIR", str(tmp_path / "own"))
    with a_host(tmp_path / "own", "import gpumodels; gpumodels.start()") as early:
        early.wait_for_ticks(1)
        assert cli.main(["other"]) == 1
        assert "torch isn't imported there yet" in capsys.readouterr().err
