from __future__ import annotations

import multiprocessing
from pathlib import PurePath

import pytest

from gpumodels.publishing.process_info import WORKER_OPTION, label_of, process_info, with_job_of
from gpumodels_shared.identity import this_process


@pytest.mark.parametrize(
    ("command", "label"),
    [
        (["python", "train_lora.py", "--lr", "3"], "train_lora.py"),
        (["python", "/srv/ComfyUI/main.py", "--listen"], "ComfyUI/main.py"),
        (["python", "main.py"], "here/main.py"),
        (["python", "-u", "-W", "ignore", "app.py"], "here/app.py"),
        (["python", "-m", "vllm.entrypoints.openai.api_server", "--model", "x"], "vllm.entrypoints.openai.api_server"),
        (["python", "-m", "gpumodels", "run", "train.py"], "here/train.py"),
        (["python", "-m", "gpumodels", "run", "-m", "my.trainer"], "my.trainer"),
        (["python", "-m", "gpumodels", "demo"], "gpumodels demo"),
        (["/opt/venv/bin/python", "/opt/venv/bin/gpumodels", "run", "finetune.py"], "finetune.py"),
        (["python", "-c", "import torch"], "python -c"),
        (["python3.11"], "python3.11"),
        ([], "python"),
    ],
)
def test_a_command_line_gives_the_label_that_people_would_use(command: list[str], label: str) -> None:
    assert label_of(command, PurePath("/srv/here")) == label


def test_the_environment_tells_rank_and_what_cuda_0_means() -> None:
    environment = {"RANK": "3", "CUDA_VISIBLE_DEVICES": "GPU-abc", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    told = process_info(this_process(), 1.0, "mine", environment)
    assert (told.label, told.rank, told.visible_devices, told.device_order) == ("mine", 3, "GPU-abc", "PCI_BUS_ID")
    assert process_info(this_process(), 1.0, None, {"RANK": "none"}).rank is None


def test_a_rank_that_the_program_sets_later_is_told_later() -> None:
    started = process_info(this_process(), 1.0, "mine", {"PATH": "/bin"})
    assert with_job_of(started, {"PATH": "/bin"}) is started
    later = with_job_of(started, {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29501"})
    assert later.job is not None
    assert (later.rank, later.job.world_size, later.job.id, later.label) == (1, 2, "localhost:29501", "mine")


def test_a_spawned_process_is_called_after_the_program_that_it_is_a_part_of(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("python", "-c", "from multiprocessing.spawn import spawn_main; spawn_main()", WORKER_OPTION)
    monkeypatch.setattr("gpumodels.publishing.process_info._command", lambda: command)
    monkeypatch.setattr("sys.argv", ["/srv/vllm", "serve"])
    monkeypatch.setattr(multiprocessing.current_process(), "name", "EngineCore_0")
    assert process_info(this_process(), 1.0, None, {}).label == "vllm EngineCore_0"


def test_the_environment_tells_what_chooses_other_vendors_devices() -> None:
    environment = {"ROCR_VISIBLE_DEVICES": "1", "ZE_AFFINITY_MASK": "0" * 5000, "PATH": "/bin"}
    told = process_info(this_process(), 1.0, None, environment).device_choice
    assert told == {"ROCR_VISIBLE_DEVICES": "1", "ZE_AFFINITY_MASK": "0" * 1000}
