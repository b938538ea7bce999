"""What the processes themselves do that changes what is shown of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gpumodels_tui.doctor import hosts
from machines import a_machine, found, statuses
from processes import running_python
from snapshots import a_model, a_process, a_snapshot, an_identity, published

WAITS = "import sys; print('ready', flush=True); sys.stdin.readline()"


@pytest.mark.parametrize(
    ("environment", "status"),
    [
        ({}, "PASS"),
        ({"VLLM_PLUGINS": "gpumodels"}, "PASS"),
        ({"VLLM_PLUGINS": "lora_resolver,gpumodels"}, "PASS"),
        ({"VLLM_PLUGINS": "lora_resolver, gpumodels"}, "WARN"),
        ({"VLLM_PLUGINS": "gpumodels-vllm"}, "WARN"),
        ({"VLLM_PLUGINS": "lora_resolver"}, "WARN"),
        ({"VLLM_PLUGINS": ""}, "WARN"),
    ],
)
def test_plugins_that_leave_the_sidecar_out_warn(environment: dict[str, str], status: str, tmp_path: Path) -> None:
    assert statuses(hosts.vllm_plugins, a_machine(environment=environment, proc=tmp_path)) == [status]


def test_a_real_process_of_vllm_that_was_started_so_warns() -> None:
    with running_python(WAITS, "vllm", environment={"VLLM_PLUGINS": "other"}) as child:
        assert child.stdout is not None
        child.stdout.readline()
        said = [text for status, text in found(hosts.vllm_plugins, a_machine()) if status == "WARN"]
        assert (
            f"the process {child.pid} has VLLM_PLUGINS=other, so that vLLM loads no other plugin, the sidecar's included" in said
        )


def test_another_process_that_was_started_so_is_not_vllms() -> None:
    with running_python(WAITS, environment={"VLLM_PLUGINS": "other"}) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert not [text for _, text in found(hosts.vllm_plugins, a_machine()) if str(child.pid) in text]


def test_dynamic_memory_and_sleep_are_told_and_no_fault(tmp_path: Path) -> None:
    info = a_process("vllm", os.getpid(), command=("vllm", "serve", "--enable-sleep-mode"))
    writer = published(tmp_path, a_snapshot(replace(a_model("wan"), dynamic_memory=True), process=info), an_identity(), 60_000)
    said = found(hosts.memory, a_machine(tmp_path))
    assert [status for status, _ in said] == ["PASS", "PASS"]
    assert "uses dynamic VRAM for 1 model:" in said[0][1]
    assert "--enable-sleep-mode" in said[1][1]
    writer.close()
    assert found(hosts.memory, a_machine(tmp_path)) == [("PASS", "no process uses dynamic VRAM or was started with a sleep mode")]
